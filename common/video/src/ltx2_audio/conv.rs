//! Convolutions over `[1, time, frequency, channels]` (spectrograms) and `[time, channels]` (waveforms), both of which
//! are libtorch's channels-last.

use tch::Tensor;
use videosdgx_tensor::{TensorError, Weights};

/// A 2-D convolution that sees no later time: padded before the first frame only, and on both sides in frequency.
pub(super) struct CausalConv {
    /// `[out, in, kernel, kernel]`, input channels innermost in memory.
    weight: Tensor,
    bias: Tensor,
    kernel: i64,
}

impl CausalConv {
    /// Loads `conv.weight` `[stored outputs, inputs, kernel, kernel]` and `conv.bias`, and keeps the first `outputs`.
    pub(super) fn load_first(
        weights: &Weights,
        [inputs, stored, outputs]: [i64; 3],
        kernel: i64,
    ) -> Result<Self, TensorError> {
        let weight = weights.tensor("conv.weight", &[stored, inputs, kernel, kernel])?;
        let bias = weights.tensor("conv.bias", &[stored])?;
        Ok(Self {
            weight: channels_innermost(&weight.f_narrow(0, 0, outputs)?),
            bias: bias.f_narrow(0, 0, outputs)?.contiguous(),
            kernel,
        })
    }

    pub(super) fn load(
        weights: &Weights,
        inputs: i64,
        outputs: i64,
        kernel: i64,
    ) -> Result<Self, TensorError> {
        Self::load_first(weights, [inputs, outputs, outputs], kernel)
    }

    /// `[1, t, m, in]` → `[1, t, m, out]`.
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        self.forward_from(x, 0)
    }

    /// Without the first `skip` frames: `[1, t, m, in]` → `[1, t - skip, m, out]`.
    pub(super) fn forward_from(&self, x: &Tensor, skip: i64) -> Tensor {
        let frames = x.size()[1];
        let before = self.kernel - 1;
        // libtorch pads both ends alike; the frames that saw the padding behind the last are cut off.
        let y = x.permute([0, 3, 1, 2]).conv2d(
            &self.weight,
            Some(&self.bias),
            [1, 1],
            [before, before / 2],
            [1, 1],
            1,
        );
        y.permute([0, 2, 3, 1]).contiguous().narrow(1, skip, frames - skip)
    }
}

/// A causal 3 × 3 convolution that halves time and frequency.
pub(super) struct HalvingConv {
    weight: Tensor,
    bias: Tensor,
}

impl HalvingConv {
    /// Loads `conv.weight` `[channels, channels, 3, 3]` and `conv.bias`.
    pub(super) fn load(weights: &Weights, channels: i64) -> Result<Self, TensorError> {
        let weight = weights.tensor("conv.weight", &[channels, channels, 3, 3])?;
        Ok(Self { weight: channels_innermost(&weight), bias: weights.tensor("conv.bias", &[channels])? })
    }

    /// `[1, t, m, c]` → `[1, ⌈t / 2⌉, m / 2, c]`.
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        // Two frames before the first, one bin above the highest.
        let padded = x.constant_pad_nd([0, 0, 0, 1, 2, 0]).permute([0, 3, 1, 2]);
        let y = padded.conv2d(&self.weight, Some(&self.bias), [2, 2], [0, 0], [1, 1], 1);
        y.permute([0, 2, 3, 1]).contiguous()
    }
}

/// A convolution over time that keeps the length.
pub(super) struct Conv1d {
    /// `[out, in, 1, kernel]`, input channels innermost in memory.
    weight: Tensor,
    bias: Option<Tensor>,
    padding: i64,
    dilation: i64,
}

impl Conv1d {
    /// Loads `weight` `[outputs, inputs, kernel]` of an odd kernel and, with `bias`, `bias`.
    pub(super) fn load(
        weights: &Weights,
        [inputs, outputs]: [i64; 2],
        kernel: i64,
        dilation: i64,
        bias: bool,
    ) -> Result<Self, TensorError> {
        let weight = weights.tensor("weight", &[outputs, inputs, kernel])?.f_unsqueeze(2)?;
        let bias = bias.then(|| weights.tensor("bias", &[outputs])).transpose()?;
        let padding = (kernel - 1) / 2 * dilation;
        Ok(Self { weight: channels_innermost(&weight), bias, padding, dilation })
    }

    /// `[t, in]` → `[t, out]`.
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        let (padding, dilation) = ([0, self.padding], [1, self.dilation]);
        let y = as_picture(x).conv2d(&self.weight, self.bias.as_ref(), [1, 1], padding, dilation, 1);
        as_rows(&y)
    }
}

/// A transposed convolution over time that multiplies the length.
pub(super) struct UpsamplingConv {
    /// `[in, out, 1, kernel]`, output channels innermost in memory.
    weight: Tensor,
    bias: Tensor,
    factor: i64,
    padding: i64,
}

impl UpsamplingConv {
    /// Loads `weight` `[inputs, outputs, kernel]` and `bias`; `kernel - factor` is even and not negative.
    pub(super) fn load(
        weights: &Weights,
        [inputs, outputs]: [i64; 2],
        kernel: i64,
        factor: i64,
    ) -> Result<Self, TensorError> {
        let weight = weights.tensor("weight", &[inputs, outputs, kernel])?.f_unsqueeze(2)?;
        let bias = weights.tensor("bias", &[outputs])?;
        Ok(Self { weight: channels_innermost(&weight), bias, factor, padding: (kernel - factor) / 2 })
    }

    /// `[t, in]` → `[factor · t, out]`.
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        let (stride, padding) = ([1, self.factor], [0, self.padding]);
        let bias = Some(&self.bias);
        let y = as_picture(x).conv_transpose2d(&self.weight, bias, stride, padding, [0, 0], 1, [1, 1]);
        as_rows(&y)
    }
}

/// `[t, c]` as `[1, c, 1, t]`, channels innermost.
fn as_picture(x: &Tensor) -> Tensor {
    x.unsqueeze(0).unsqueeze(0).permute([0, 3, 1, 2])
}

/// `[1, c, 1, t]` as contiguous `[t, c]`.
fn as_rows(y: &Tensor) -> Tensor {
    y.permute([0, 2, 3, 1]).contiguous().squeeze_dim(0).squeeze_dim(0)
}

/// A copy of `[out, in, h, w]` with `in` innermost in memory.
fn channels_innermost(weight: &Tensor) -> Tensor {
    weight.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}
