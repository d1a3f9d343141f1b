//! The decoder: latents to pixels.

use tch::Tensor;
use videosdgx_tensor::{TensorError, Weights};

use super::blocks::{Head, MiddleBlock, ResidualBlock};
use super::config::WanVaeConfig;
use super::conv::{CausalConv, Pointwise};
use super::resample::Upsample;
use crate::autoencoder::{FeatureCache, Slots};

/// Decodes one latent frame at a time.
pub(super) struct Decoder {
    post_quant: Pointwise,
    conv_in: CausalConv,
    middle: MiddleBlock,
    levels: Vec<Level>,
    head: Head,
    slots: Slots,
}

struct Level {
    resnets: Vec<ResidualBlock>,
    upsample: Option<Upsample>,
}

impl Decoder {
    pub(super) fn load(weights: &Weights, config: &WanVaeConfig) -> Result<Self, TensorError> {
        let root = weights;
        let weights = &root.at("decoder");
        let mut slots = Slots::default();
        let dims: Vec<i64> = config.dim_mult.iter().rev().map(|m| config.decoder_dim() * m).collect();
        let mut channels = dims[0];
        let conv_in = CausalConv::load(&weights.at("conv_in"), &mut slots, config.z_dim, channels)?;
        let middle = MiddleBlock::load(&weights.at("mid_block"), &mut slots, channels)?;
        let mut levels = Vec::new();
        for (level, outputs) in dims.into_iter().enumerate() {
            let weights = weights.at("up_blocks").at(level);
            let mut resnets = Vec::new();
            for block in 0..=config.num_res_blocks {
                let weights = weights.at("resnets").at(block);
                resnets.push(ResidualBlock::load(&weights, &mut slots, channels, outputs)?);
                channels = outputs;
            }
            // The encoder's steps in reverse order.
            let temporal = config.temporal_downsample.iter().rev().nth(level);
            let upsample = temporal
                .map(|temporal| {
                    Upsample::load(&weights.at("upsamplers").at(0), &mut slots, channels, *temporal)
                })
                .transpose()?;
            if upsample.is_some() {
                channels /= 2;
            }
            levels.push(Level { resnets, upsample });
        }
        Ok(Self {
            post_quant: Pointwise::load(&root.at("post_quant_conv"), config.z_dim, config.z_dim, 3)?,
            conv_in,
            middle,
            levels,
            head: Head::load(weights, &mut slots, channels, config.out_channels)?,
            slots,
        })
    }

    /// An empty cache, for a new video.
    pub(super) fn cache(&self) -> FeatureCache {
        FeatureCache::new(&self.slots)
    }

    /// Decodes the next latent frame `[1, h, w, z]` → `[t, 8 h, 8 w, 3]`, about -1 to 1, not clamped; one frame for the
    /// first latent frame, four for each other.
    pub(super) fn forward(&self, z: &Tensor, cache: &mut FeatureCache) -> Tensor {
        let x = self.conv_in.forward(&self.post_quant.forward(z), cache);
        let mut x = self.middle.forward(x, cache);
        for level in &self.levels {
            for resnet in &level.resnets {
                x = resnet.forward(x, cache);
            }
            if let Some(upsample) = &level.upsample {
                x = upsample.forward(x, cache);
            }
        }
        self.head.forward(&x, cache)
    }
}
