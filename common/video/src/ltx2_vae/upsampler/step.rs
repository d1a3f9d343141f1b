//! The step of the upsampler that changes the size.

use tch::Tensor;
use videosdgx_tensor::{TensorError, Weights};

use super::Conv3d;
use super::config::Step;
use crate::autoencoder::{Conv2d, frames_together, size4};
use crate::ltx2_vae::resample::unfold;

/// A convolution whose channels become pixels or frames, for rational factors followed by a blur that leaves out pixels.
pub(super) struct Resampler {
    conv: Conv,
    step: Step,
    /// `[c, 1, 5, 5]`, the same for every channel.
    blur: Option<Tensor>,
}

enum Conv {
    Video(Conv3d),
    Frames(Conv2d),
}

impl Resampler {
    pub(super) fn load(weights: &Weights, step: Step, channels: i64) -> Result<Self, TensorError> {
        let outputs = channels * step.cell();
        let frames = |name: &str| Conv2d::load(&weights.at(name), channels, outputs, 1, 1).map(Conv::Frames);
        let (conv, blur) = match step {
            Step::Whole { .. } => (Conv::Video(Conv3d::load(&weights.at(0), channels, outputs)?), None),
            Step::Frames => (frames("0")?, None),
            Step::Rational { down, .. } => {
                let kernel = weights.at("blur_down").tensor("kernel", &[1, 1, 5, 5])?;
                let blur = (down > 1).then(|| kernel.expand([channels, 1, 5, 5], false).contiguous());
                (frames("conv")?, blur)
            }
        };
        Ok(Self { conv, step, blur })
    }

    /// `[t, h, w, c]` → `[t', h', w', c]`.
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        let (stride, down) = match self.step {
            Step::Whole { time, space } => ([time, space], 1),
            Step::Frames => ([1, 2], 1),
            Step::Rational { up, down } => ([1, up], down),
        };
        match &self.conv {
            Conv::Video(conv) => {
                let y = self.spread(&conv.forward(x), stride);
                // The first latent is of one frame, and is not doubled.
                y.narrow(0, 1, y.size()[0] - 1)
            }
            Conv::Frames(conv) => {
                let together = i64::try_from(frames_together(x)).unwrap_or(i64::MAX).min(x.size()[0]);
                let parts: Vec<Tensor> = x
                    .split(together, 0)
                    .iter()
                    .map(|x| self.blurred(self.spread(&conv.forward(x), stride), down))
                    .collect();
                Tensor::cat(&parts, 0)
            }
        }
    }

    /// Channels `[…, c * cell]`, the cell innermost, become frames and pixels.
    fn spread(&self, y: &Tensor, stride: [i64; 2]) -> Tensor {
        let (frames, height, width, channels) = size4(y);
        let cell = self.step.cell();
        unfold(&y.view([frames, height, width, channels / cell, cell]).transpose(3, 4), stride)
    }

    fn blurred(&self, x: Tensor, down: i64) -> Tensor {
        let Some(blur) = &self.blur else {
            return x;
        };
        let none: Option<&Tensor> = None;
        let channels = x.size()[3];
        let y = x.permute([0, 3, 1, 2]).conv2d(blur, none, [down, down], [2, 2], [1, 1], channels);
        y.permute([0, 2, 3, 1]).contiguous()
    }
}
