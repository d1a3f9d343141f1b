//! The encoder: pixels to latents.

use tch::Tensor;
use videosdgx_tensor::{TensorError, Weights};

use super::blocks::Block;
use super::config::Ltx2VaeConfig;
use super::conv::ConvStyle;
use super::plan::Layer;
use super::resample::patches;
use crate::autoencoder::{FeatureCache, Slots};

/// Encodes the first frame, then as many frames as a latent has.
pub(super) struct Encoder {
    blocks: Vec<Block>,
    slots: Slots,
    patch: i64,
    latent_channels: i64,
}

impl Encoder {
    pub(super) fn load(
        weights: &Weights,
        config: &Ltx2VaeConfig,
        layers: &[Layer],
    ) -> Result<Self, TensorError> {
        let mut slots = Slots::default();
        let reflect = config.encoder_spatial_padding_mode == "reflect";
        let style = ConvStyle { lookahead: false, reflect, small_pieces: false };
        let blocks = layers.iter().map(|layer| Block::load(weights, layer, &mut slots, style));
        Ok(Self {
            blocks: blocks.collect::<Result<_, _>>()?,
            slots,
            patch: config.patch_size,
            latent_channels: config.latent_channels,
        })
    }

    /// An empty cache, for a new video.
    pub(super) fn cache(&self) -> FeatureCache {
        FeatureCache::new(&self.slots)
    }

    /// Encodes the first frame or those of the next latent, `[t, h, w, 3]` from -1 to 1 → the mean of a latent frame,
    /// `[1, h / 32, w / 32, z]`.
    pub(super) fn forward(&self, x: &Tensor, cache: &mut FeatureCache) -> Option<Tensor> {
        let mut x = patches(x, self.patch);
        for block in &self.blocks {
            x = block.forward(x, false, cache)?;
        }
        Some(x.narrow(-1, 0, self.latent_channels))
    }
}
