//! The encoder: pixels to latents.

use tch::Tensor;
use videosdgx_tensor::{TensorError, Weights};

use super::blocks::{Head, MiddleBlock, ResidualBlock};
use super::config::WanVaeConfig;
use super::conv::{CausalConv, Pointwise};
use super::resample::Downsample;
use crate::autoencoder::{FeatureCache, Slots};

/// Encodes the first frame, then four frames at a time.
pub(super) struct Encoder {
    conv_in: CausalConv,
    down: Vec<DownLayer>,
    middle: MiddleBlock,
    head: Head,
    quant: Pointwise,
    slots: Slots,
    z_dim: i64,
}

enum DownLayer {
    Residual(Box<ResidualBlock>),
    Downsample(Downsample),
}

impl Encoder {
    pub(super) fn load(weights: &Weights, config: &WanVaeConfig) -> Result<Self, TensorError> {
        let root = weights;
        let weights = &root.at("encoder");
        let mut slots = Slots::default();
        let mut channels = config.base_dim;
        let conv_in = CausalConv::load(&weights.at("conv_in"), &mut slots, config.in_channels, channels)?;
        let mut down = Vec::new();
        for (level, multiple) in config.dim_mult.iter().enumerate() {
            let outputs = config.base_dim * multiple;
            for _ in 0..config.num_res_blocks {
                let weights = weights.at("down_blocks").at(down.len());
                let block = ResidualBlock::load(&weights, &mut slots, channels, outputs)?;
                down.push(DownLayer::Residual(Box::new(block)));
                channels = outputs;
            }
            if let Some(temporal) = config.temporal_downsample.get(level) {
                let weights = weights.at("down_blocks").at(down.len());
                let step = Downsample::load(&weights, &mut slots, channels, *temporal)?;
                down.push(DownLayer::Downsample(step));
            }
        }
        let moments = 2 * config.z_dim;
        Ok(Self {
            conv_in,
            down,
            middle: MiddleBlock::load(&weights.at("mid_block"), &mut slots, channels)?,
            head: Head::load(weights, &mut slots, channels, moments)?,
            quant: Pointwise::load(&root.at("quant_conv"), moments, moments, 3)?,
            slots,
            z_dim: config.z_dim,
        })
    }

    /// An empty cache, for a new video.
    pub(super) fn cache(&self) -> FeatureCache {
        FeatureCache::new(&self.slots)
    }

    /// Encodes the first frame or the next four, `[t, h, w, 3]` from -1 to 1 → the mean of a latent frame,
    /// `[1, h / 8, w / 8, z]`.
    pub(super) fn forward(&self, x: &Tensor, cache: &mut FeatureCache) -> Tensor {
        let mut x = self.conv_in.forward(x, cache);
        for layer in &self.down {
            x = match layer {
                DownLayer::Residual(block) => block.forward(x, cache),
                DownLayer::Downsample(step) => step.forward(&x, cache),
            };
        }
        let x = self.head.forward(&self.middle.forward(x, cache), cache);
        self.quant.forward(&x).narrow(-1, 0, self.z_dim)
    }
}
