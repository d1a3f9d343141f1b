//! Convolutions over `[frames, height, width, channels]`.
//!
//! A convolution over time with three taps is computed as a 2-D convolution over three times as many channels: the
//! frame and its neighbours concatenated. In oneDNN this is as fast as a 3-D convolution for many channels, and several
//! times faster for few.

use tch::Tensor;
use videosdgx_tensor::{TensorError, Weights};

/// Largest input, in elements, for which frames are convolved together.
pub(crate) const CHUNK_ELEMENTS: i64 = 1 << 22;

/// A 2-D convolution.
pub(crate) struct Conv2d {
    /// `[out, in, kernel, kernel]`, input channels innermost in memory.
    weight: Tensor,
    bias: Tensor,
    stride: i64,
    padding: i64,
}

impl Conv2d {
    /// Loads `weight` `[outputs, inputs, 3, 3]` and `bias`.
    pub(crate) fn load(
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
    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        conv2d(x, &self.weight, &self.bias, self.stride, self.padding)
    }
}

/// A 3 × 3 × 3 convolution over time and space.
pub(crate) struct FrameConv {
    /// `[out, 3 * in, 3, 3]`: for three consecutive frames.
    weight: Tensor,
    bias: Tensor,
    /// Zeros around each frame; 0 for frames that already have a border.
    padding: i64,
}

impl FrameConv {
    /// Loads `weight` `[outputs, inputs, 3, 3, 3]` and `bias`.
    pub(crate) fn load(weights: &Weights, inputs: i64, outputs: i64) -> Result<Self, TensorError> {
        let weight = weights.tensor("weight", &[outputs, inputs, 3, 3, 3])?;
        Ok(Self::new(&weight, weights.tensor("bias", &[outputs])?, 1))
    }

    /// `weight`: `[out, in, 3, 3, 3]`; `padding`: 1 for zeros around each frame, 0 for frames with a border.
    pub(crate) fn new(weight: &Tensor, bias: Tensor, padding: i64) -> Self {
        let (outputs, inputs) = (weight.size()[0], weight.size()[1]);
        let weight = weight.permute([0, 3, 4, 2, 1]).reshape([outputs, 3, 3, 3 * inputs]);
        Self { weight: weight.permute([0, 3, 1, 2]), bias, padding }
    }

    /// Convolves every three consecutive of `t + 2` frames `[1, h, w, in]`, computing `together` results at once →
    /// `[t, h', w', out]`.
    pub(crate) fn forward(&self, frames: &[Tensor], together: usize) -> Tensor {
        let count = frames.len().saturating_sub(2);
        if count <= together {
            return self.convolve(&taps(frames));
        }
        let runs: Vec<usize> = (0..count).step_by(together.max(1)).collect();
        let mut output: Option<Tensor> = None;
        for start in runs {
            let end = (start + together.max(1)).min(count);
            let part = self.convolve(&taps(&frames[start..end + 2]));
            let (_, height, width, channels) = size4(&part);
            let output = output.get_or_insert_with(|| {
                part.new_empty([count as i64, height, width, channels], (part.kind(), part.device()))
            });
            output.narrow(0, start as i64, (end - start) as i64).copy_(&part);
        }
        output.unwrap_or_default()
    }

    /// A frame after two that are zero, `[1, h, w, in]` → `[1, h', w', out]`: only the last tap counts.
    pub(crate) fn forward_after_zeros(&self, x: &Tensor) -> Tensor {
        let inputs = self.weight.size()[1] / 3;
        let last_tap = channels_innermost(&self.weight.narrow(1, 2 * inputs, inputs));
        conv2d(x, &last_tap, &self.bias, 1, self.padding)
    }

    fn convolve(&self, taps: &Tensor) -> Tensor {
        conv2d(taps, &self.weight, &self.bias, 1, self.padding)
    }
}

/// How many frames of `x` `[t, h, w, c]` to convolve together: all if they are small, otherwise one.
pub(crate) fn frames_together(x: &Tensor) -> usize {
    if x.numel() as i64 * 3 <= CHUNK_ELEMENTS { usize::MAX } else { 1 }
}

/// Concatenates every three consecutive of `t + 2` frames `[1, h, w, c]`: `[t, h, w, 3 * c]`.
fn taps(frames: &[Tensor]) -> Tensor {
    if let [_, _, _] = frames {
        return Tensor::cat(frames, -1);
    }
    let (_, height, width, channels) = size4(&frames[0]);
    let count = frames.len() as i64 - 2;
    let output =
        frames[0].new_empty([count, height, width, 3 * channels], (frames[0].kind(), frames[0].device()));
    for (frame, window) in (0..count).zip(frames.windows(3)) {
        let _ = Tensor::cat_out(&output.narrow(0, frame, 1), window, -1);
    }
    output
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
pub(crate) fn size4(x: &Tensor) -> (i64, i64, i64, i64) {
    let size = x.size();
    (size[0], size[1], size[2], size[3])
}
