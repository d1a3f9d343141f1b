//! Steps between the levels: half or double the size, and at some also half or double the frame rate.

use tch::Tensor;
use videosdgx_tensor::{TensorError, Weights};

use super::conv::{CHUNK_ELEMENTS, Conv2d, FeatureCache, Slots, TimeConv, remember, size4};

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

/// Half the size.
pub(super) struct Downsample {
    conv: Conv2d,
    time: Option<CachedTimeConv>,
}

impl Downsample {
    /// With `temporal` also half the frame rate.
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

    /// `[t, h, w, c]` → `[t or t / 2, h / 2, w / 2, c]`; the first frame passes over time as it is.
    pub(super) fn forward(&self, x: &Tensor, cache: &mut FeatureCache) -> Tensor {
        // One column on the right, one row at the bottom.
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

/// Twice the size, half the channels.
pub(super) struct Upsample {
    conv: Conv2d,
    time: Option<CachedTimeConv>,
}

impl Upsample {
    /// With `temporal` also twice the frame rate.
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
            return self.plane(&x, frames, 1);
        };
        match cache.past(time.slot) {
            None => {
                // The frames after the first start from black, as if it had not been there.
                let _black = cache.begin(time.slot, 2, &x);
                self.plane(&x, frames, 1)
            }
            Some(past) => {
                let doubled = time.conv.forward(&Tensor::cat(&[&past, &x], 0), 1);
                remember(&past, &x);
                self.plane(&doubled, frames, 2)
            }
        }
    }

    /// Repeats every pixel over a square of four and convolves. `x`: `[t, h, w, rate * c]`, where the channels of a
    /// frame hold `rate` frames one after the other.
    fn plane(&self, x: &Tensor, frames: i64, rate: i64) -> Tensor {
        let (_, height, width, channels) = size4(x);
        let channels = channels / rate;
        let x = x.reshape([frames, height, 1, width, 1, rate, channels]).permute([0, 5, 1, 2, 3, 4, 6]);
        let x = x.expand([frames, rate, height, 2, width, 2, channels], false);
        let whole = |x: Tensor| self.conv.forward(&x.reshape([-1, 2 * height, 2 * width, channels]));
        if x.numel() as i64 <= CHUNK_ELEMENTS {
            return whole(x);
        }
        // Frame by frame, or the repeated pixels are the largest tensor of all.
        let frames: Vec<Tensor> = (0..frames * rate)
            .map(|frame| whole(x.select(0, frame / rate).select(0, frame % rate)))
            .collect();
        Tensor::cat(&frames, 0)
    }
}
