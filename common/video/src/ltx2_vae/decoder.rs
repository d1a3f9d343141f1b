//! The decoder: latents to pixels, a few frames at a time.
//!
//! A decoder that is not causal computes a frame from latents that come up to twenty later. Each convolution waits for
//! the one frame after those that it can complete, so that pieces flow through the layers and only two frames for each
//! convolution and connection are kept. The result is that of a decoder that sees the whole video at once.

use tch::Tensor;
use videosdgx_tensor::{TensorError, Weights};

use super::blocks::Block;
use super::config::Ltx2VaeConfig;
use super::conv::ConvStyle;
use super::memory::piece_limits;
use super::plan::Layer;
use super::resample::pixels;
use crate::autoencoder::{FeatureCache, Slots};

/// A loaded decoder.
pub(super) struct Decoder {
    blocks: Vec<Block>,
    layers: Vec<Layer>,
    slots: Slots,
    patch: i64,
}

impl Decoder {
    pub(super) fn load(
        weights: &Weights,
        config: &Ltx2VaeConfig,
        layers: Vec<Layer>,
    ) -> Result<Self, TensorError> {
        let mut slots = Slots::default();
        let style = ConvStyle {
            lookahead: !config.decoder_causal,
            reflect: config.decoder_spatial_padding_mode == "reflect",
            small_pieces: true,
        };
        let blocks = layers.iter().map(|layer| Block::load(weights, layer, &mut slots, style));
        Ok(Self { blocks: blocks.collect::<Result<_, _>>()?, layers, slots, patch: config.patch_size })
    }

    /// Begins decoding latents `[f, h, w, z]`; pieces are sized for a picture or tile of `largest` `[height, width]`
    /// latents.
    pub(super) fn stream(&self, latents: Tensor, largest: [i64; 2]) -> DecoderStream<'_> {
        let limits = piece_limits(&self.layers, largest, latents.device());
        DecoderStream {
            decoder: self,
            waiting: vec![(0, latents, true)],
            limits,
            cache: FeatureCache::new(&self.slots),
        }
    }
}

/// A video, or one tile of it, while it is decoded.
pub(super) struct DecoderStream<'d> {
    decoder: &'d Decoder,
    /// Frames that wait for a layer, those furthest on last: the layer, the frames, and whether the video ends with them.
    waiting: Vec<(usize, Tensor, bool)>,
    limits: Vec<i64>,
    cache: FeatureCache,
}

impl DecoderStream<'_> {
    /// The next frames `[t, 32 h, 32 w, 3]`, about -1 to 1, not clamped; `None` at the end. How many they are depends
    /// on the sizes that the stream was made with, not on the values.
    pub(super) fn next_frames(&mut self) -> Option<Tensor> {
        while let Some((layer, x, last)) = self.waiting.pop() {
            let Some(block) = self.decoder.blocks.get(layer) else {
                return Some(pixels(&x, self.decoder.patch));
            };
            let (frames, limit) = (x.size()[0], self.limits[layer]);
            let (piece, last) = if frames > limit {
                self.waiting.push((layer, x.narrow(0, limit, frames - limit), last));
                (x.narrow(0, 0, limit), false)
            } else {
                (x, last)
            };
            if let Some(y) = block.forward(piece, last, &mut self.cache) {
                self.waiting.push((layer + 1, y, last));
            }
        }
        None
    }
}
