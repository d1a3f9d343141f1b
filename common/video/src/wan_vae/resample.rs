//! Steps between levels: they halve or double the size, and some also the frame rate.

use tch::Tensor;
use videosdgx_tensor::{TensorError, Weights};

use super::conv::TimeConv;
use crate::autoencoder::{CHUNK_ELEMENTS, Conv2d, FeatureCache, Slots, remember, size4};

/// A causal convolution over time with its slot in the cache.
struct CachedTimeConv {
    conv: TimeConv,
    slot: usize,
}

impl CachedTimeConv {
    fn load(weights: &Weights, slots: &mut Slots, inputs: i64, outputs: i64) -> Result<Self, TensorError> {
        Ok(Self { conv: TimeConv::load(&weights.at("time_conv"), inputs, outputs)?, slot: slots.next() })
    }
}

/// Halves the size.
pub(super) struct Downsample {
    conv: Conv2d,
    time: Option<CachedTimeConv>,
}

impl Downsample {
    /// With `temporal` it also halves the frame rate.
    pub(super) fn load(
        weights: &Weights,
        slots: &mut Slots,
        channels: i64,
        temporal: bool,
    ) -> Result<Self, TensorError> {
        Ok(Self {
            conv: Conv2d::load(&weights.at("resample").at(1), channels, channels, 2, 0)?,
            time: temporal.then(|| CachedTimeConv::load(weights, slots, channels, channels)).transpose()?,
        })
    }

    /// `[t, h, w, c]` → `[t or t / 2, h / 2, w / 2, c]`; the first frame is not halved in time.
    pub(super) fn forward(&self, x: &Tensor, cache: &mut FeatureCache) -> Tensor {
        // Pads one column on the right and one row at the bottom.
        let x = self.conv.forward(&x.constant_pad_nd([0, 0, 0, 1, 0, 1]));
        let Some(time) = &self.time else {
            return x;
        };
        match cache.past(time.slot) {
            None => {
                remember(&cache.begin(time.slot, 1, &x), &x);
                x
            }
            Some(past) => {
                let halved = time.conv.forward(&Tensor::cat(&[&past, &x], 0), 2);
                remember(&past, &x);
                halved
            }
        }
    }
}

/// Doubles the size and halves the channels.
pub(super) struct Upsample {
    conv: Conv2d,
    time: Option<CachedTimeConv>,
}

impl Upsample {
    /// With `temporal` it also doubles the frame rate.
    pub(super) fn load(
        weights: &Weights,
        slots: &mut Slots,
        channels: i64,
        temporal: bool,
    ) -> Result<Self, TensorError> {
        Ok(Self {
            conv: Conv2d::load(&weights.at("resample").at(1), channels, channels / 2, 1, 1)?,
            time: temporal
                .then(|| CachedTimeConv::load(weights, slots, channels, 2 * channels))
                .transpose()?,
        })
    }

    /// `[t, h, w, c]` → `[t or 2 t, 2 h, 2 w, c / 2]`; the first frame is not doubled in time.
    pub(super) fn forward(&self, x: Tensor, cache: &mut FeatureCache) -> Tensor {
        let frames = x.size()[0];
        let Some(time) = &self.time else {
            return self.enlarge(&x, frames, 1);
        };
        match cache.past(time.slot) {
            None => {
                // The second frame sees zeros in place of the first, as in the reference.
                let _zeros = cache.begin(time.slot, 2, &x);
                self.enlarge(&x, frames, 1)
            }
            Some(past) => {
                let doubled = time.conv.forward(&Tensor::cat(&[&past, &x], 0), 1);
                remember(&past, &x);
                self.enlarge(&doubled, frames, 2)
            }
        }
    }

    /// Repeats every pixel over 2 × 2 pixels and convolves. `x`: `[t, h, w, rate * c]`, where the channels of a
    /// frame hold `rate` frames.
    fn enlarge(&self, x: &Tensor, frames: i64, rate: i64) -> Tensor {
        let (_, height, width, channels) = size4(x);
        let channels = channels / rate;
        let x = x.reshape([frames, height, 1, width, 1, rate, channels]).permute([0, 5, 1, 2, 3, 4, 6]);
        let x = x.expand([frames, rate, height, 2, width, 2, channels], false);
        let whole = |x: Tensor| self.conv.forward(&x.reshape([-1, 2 * height, 2 * width, channels]));
        if x.numel() as i64 <= CHUNK_ELEMENTS {
            return whole(x);
        }
        // Frame by frame; otherwise the repeated pixels would be the largest tensor of the decoder.
        let frames: Vec<Tensor> = (0..frames * rate)
            .map(|frame| whole(x.select(0, frame / rate).select(0, frame % rate)))
            .collect();
        Tensor::cat(&frames, 0)
    }
}
