//! Wan's causal convolutions.

use tch::Tensor;
use videosdgx_tensor::{TensorError, Weights};

use crate::autoencoder::{FeatureCache, FrameConv, Slots, frames_together, remember};

/// A causal 3 × 3 × 3 convolution that keeps the size.
pub(super) struct CausalConv {
    conv: FrameConv,
    slot: usize,
}

impl CausalConv {
    pub(super) fn load(
        weights: &Weights,
        slots: &mut Slots,
        inputs: i64,
        outputs: i64,
    ) -> Result<Self, TensorError> {
        Ok(Self { conv: FrameConv::load(weights, inputs, outputs)?, slot: slots.next() })
    }

    /// The next frames `[t, h, w, in]` → `[t, h, w, out]`. Frames before the first are zero.
    pub(super) fn forward(&self, x: &Tensor, cache: &mut FeatureCache) -> Tensor {
        let frames = x.size()[0];
        let known = cache.past(self.slot);
        let first = known.is_none() && frames == 1;
        let past = known.unwrap_or_else(|| cache.begin(self.slot, 2, x));
        let output = if first {
            self.conv.forward_after_zeros(x)
        } else {
            let window: Vec<Tensor> = past.split(1, 0).into_iter().chain(x.split(1, 0)).collect();
            self.conv.forward(&window, frames_together(x))
        };
        remember(&past, x);
        output
    }
}

/// A convolution over time with three taps.
pub(super) struct TimeConv {
    /// `[out, 3 * in]`.
    weight: Tensor,
    bias: Tensor,
}

impl TimeConv {
    pub(super) fn load(weights: &Weights, inputs: i64, outputs: i64) -> Result<Self, TensorError> {
        let weight = weights.tensor("weight", &[outputs, inputs, 3, 1, 1])?;
        let weight = weight.permute([0, 2, 1, 3, 4]).reshape([outputs, 3 * inputs]);
        Ok(Self { weight, bias: weights.tensor("bias", &[outputs])? })
    }

    /// `[t, h, w, in]` → `[(t - 3) / stride + 1, h, w, out]`.
    pub(super) fn forward(&self, x: &Tensor, stride: i64) -> Tensor {
        let frames = (x.size()[0] - 3) / stride + 1;
        taps(x, frames, stride).linear(&self.weight, Some(&self.bias))
    }
}

/// A convolution with kernel size 1.
pub(super) struct Pointwise {
    weight: Tensor,
    bias: Tensor,
}

impl Pointwise {
    /// Loads `weight` `[outputs, inputs, 1, …]`, with `dimensions` kernel dimensions, and `bias`.
    pub(super) fn load(
        weights: &Weights,
        inputs: i64,
        outputs: i64,
        dimensions: usize,
    ) -> Result<Self, TensorError> {
        let shape: Vec<i64> =
            [outputs, inputs].into_iter().chain(std::iter::repeat_n(1, dimensions)).collect();
        let weight = weights.tensor("weight", &shape)?.reshape([outputs, inputs]);
        Ok(Self { weight, bias: weights.tensor("bias", &[outputs])? })
    }

    /// `[…, in]` → `[…, out]`.
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, Some(&self.bias))
    }
}

/// Concatenates each of the frames `[t, h, w, c]` with its two successors: `[frames, h, w, 3 * c]`.
fn taps(x: &Tensor, frames: i64, stride: i64) -> Tensor {
    let last = (frames - 1) * stride;
    let tap = |at: i64| x.slice(0, at, at + last + 1, stride);
    Tensor::cat(&[tap(0), tap(1), tap(2)], -1)
}
