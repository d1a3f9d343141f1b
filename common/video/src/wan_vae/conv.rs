//! Convolutions over `[frames, height, width, channels]`, and the caches of the causal ones.
//!
//! A convolution over time with `k` taps is computed as a 2-D convolution over `k` times as many channels: the frame
//! and its predecessors concatenated. In oneDNN this is as fast as a 3-D convolution for many channels, and several times
//! faster for few.

use tch::Tensor;
use videosdgx_tensor::{TensorError, Weights};

/// Last frames of the previous chunk that the causal layers need: one slot per layer.
#[derive(Debug)]
pub(super) struct FeatureCache {
    slots: Vec<Option<Tensor>>,
}

impl FeatureCache {
    pub(super) fn new(slots: &Slots) -> Self {
        Self { slots: (0..slots.0).map(|_| None).collect() }
    }

    /// The last `depth` frames `[depth, h, w, c]` before the next chunk; `None` before the first one. [`remember`]
    /// overwrites them in place, which avoids fragmenting memory.
    pub(super) fn past(&self, slot: usize) -> Option<Tensor> {
        self.slots[slot].as_ref().map(Tensor::shallow_clone)
    }

    /// Initialises a layer's slot with `depth` zero frames of the size of `x`'s.
    pub(super) fn begin(&mut self, slot: usize, depth: i64, x: &Tensor) -> Tensor {
        let (_, height, width, channels) = size4(x);
        let zeros = Tensor::zeros([depth, height, width, channels], (x.kind(), x.device()));
        self.slots[slot] = Some(zeros.shallow_clone());
        zeros
    }
}

/// Assigns cache slots to layers while they are loaded.
#[derive(Debug, Default)]
pub(super) struct Slots(usize);

impl Slots {
    pub(super) fn next(&mut self) -> usize {
        self.0 += 1;
        self.0 - 1
    }
}

/// A 2-D convolution.
pub(super) struct Conv2d {
    /// `[out, in, kernel, kernel]`, input channels innermost in memory.
    weight: Tensor,
    bias: Tensor,
    stride: i64,
    padding: i64,
}

impl Conv2d {
    /// Loads `weight` `[outputs, inputs, 3, 3]` and `bias`.
    pub(super) fn load(
        weights: &Weights,
        inputs: i64,
        outputs: i64,
        stride: i64,
        padding: i64,
    ) -> Result<Self, TensorError> {
        let weight = weights.tensor("weight", &[outputs, inputs, 3, 3])?;
        let weight = channels_innermost(&weight);
        Ok(Self { weight, bias: weights.tensor("bias", &[outputs])?, stride, padding })
    }

    /// `[n, h, w, in]` → `[n, h', w', out]`.
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        conv2d(x, &self.weight, &self.bias, self.stride, self.padding)
    }
}

/// A causal 3 × 3 × 3 convolution that keeps the size.
pub(super) struct CausalConv {
    /// `[out, 3 * in, 3, 3]`: for the second-to-last, the last and the current frame.
    weight: Tensor,
    bias: Tensor,
    inputs: i64,
    slot: usize,
}

/// Largest input, in elements, for which the frames of a chunk are convolved together.
pub(super) const CHUNK_ELEMENTS: i64 = 1 << 22;

impl CausalConv {
    pub(super) fn load(
        weights: &Weights,
        slots: &mut Slots,
        inputs: i64,
        outputs: i64,
    ) -> Result<Self, TensorError> {
        let weight = weights.tensor("weight", &[outputs, inputs, 3, 3, 3])?;
        let weight = weight.permute([0, 2, 1, 3, 4]).reshape([outputs, 3 * inputs, 3, 3]);
        Ok(Self {
            weight: channels_innermost(&weight),
            bias: weights.tensor("bias", &[outputs])?,
            inputs,
            slot: slots.next(),
        })
    }

    /// The next frames `[t, h, w, in]` → `[t, h, w, out]`. Frames before the first are zero.
    pub(super) fn forward(&self, x: &Tensor, cache: &mut FeatureCache) -> Tensor {
        let (frames, height, width, _) = size4(x);
        let known = cache.past(self.slot);
        let first = known.is_none() && frames == 1;
        let past = known.unwrap_or_else(|| cache.begin(self.slot, 2, x));
        let output = if first {
            // Frames before it are zero, so only the last tap counts.
            let last_tap = self.weight.narrow(1, 2 * self.inputs, self.inputs);
            conv2d(x, &channels_innermost(&last_tap), &self.bias, 1, 1)
        } else if frames == 1 || x.numel() as i64 * 3 <= CHUNK_ELEMENTS {
            self.convolve(&taps(&Tensor::cat(&[&past, x], 0), frames, 1))
        } else {
            let output = x.new_empty([frames, height, width, self.weight.size()[0]], (x.kind(), x.device()));
            for frame in 0..frames {
                let window: Vec<Tensor> = (frame - 2..=frame)
                    .map(|at| if at < 0 { past.narrow(0, at + 2, 1) } else { x.narrow(0, at, 1) })
                    .collect();
                output.narrow(0, frame, 1).copy_(&self.convolve(&Tensor::cat(&window, -1)));
            }
            output
        };
        remember(&past, x);
        output
    }

    fn convolve(&self, taps: &Tensor) -> Tensor {
        conv2d(taps, &self.weight, &self.bias, 1, 1)
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

/// Overwrites `past` `[depth, …]` with the last `depth` frames of `past` followed by `x`; depth is 1 or 2.
pub(super) fn remember(past: &Tensor, x: &Tensor) {
    let (depth, frames) = (past.size()[0], x.size()[0]);
    if frames < depth {
        past.get(0).copy_(&past.get(1));
        past.get(1).copy_(&x.get(0));
    } else {
        past.shallow_clone().copy_(&x.narrow(0, frames - depth, depth));
    }
}

fn conv2d(x: &Tensor, weight: &Tensor, bias: &Tensor, stride: i64, padding: i64) -> Tensor {
    let x = x.permute([0, 3, 1, 2]);
    let y = x.conv2d(weight, Some(bias), [stride, stride], [padding, padding], [1, 1], 1);
    y.permute([0, 2, 3, 1]).contiguous()
}

/// A copy of `[out, in, h, w]` with `in` innermost in memory.
fn channels_innermost(weight: &Tensor) -> Tensor {
    weight.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}

/// Frames, height, width and channels.
pub(super) fn size4(x: &Tensor) -> (i64, i64, i64, i64) {
    let size = x.size();
    (size[0], size[1], size[2], size[3])
}
