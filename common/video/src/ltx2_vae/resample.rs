//! Steps between levels, and patches: pixels and frames become channels, and back.

use tch::{Kind, Tensor};
use videosdgx_tensor::{TensorError, Weights};

use super::conv::{ConvStyle, StreamConv};
use super::plan::{Layer, LayerKind};
use crate::autoencoder::{FeatureCache, Slots, size4};

/// Halves size or rate: a convolution of fewer channels whose pixels become channels, and a mean of the input's.
pub(super) struct Downsample {
    conv: StreamConv,
    /// Time and space.
    stride: [i64; 2],
    outputs: i64,
    slot: usize,
}

impl Downsample {
    pub(super) fn load(
        weights: &Weights,
        layer: &Layer,
        slots: &mut Slots,
        style: ConvStyle,
    ) -> Result<Self, TensorError> {
        let channels = [layer.inputs, layer.conv_outputs()];
        Ok(Self {
            conv: StreamConv::load(&weights.at("conv"), slots, style, channels)?,
            stride: layer.stride(),
            outputs: layer.outputs,
            slot: slots.next(),
        })
    }

    /// `[t, h, w, in]` → `[t / 2, h / 2, w / 2, out]` or a part of that, as the stride says. The first frame is halved
    /// alone; after it, `t` is even if the rate is halved.
    pub(super) fn forward(&self, x: &Tensor, cache: &mut FeatureCache) -> Option<Tensor> {
        let doubled = (self.stride[0] > 1 && cache.first(self.slot))
            .then(|| Tensor::cat(&[x.narrow(0, 0, 1), x.shallow_clone()], 0));
        let x = doubled.as_ref().unwrap_or(x);
        let y = self.conv.forward(x, false, cache)?;
        let folded = fold(x, self.stride);
        let (frames, height, width, channels) = size4(&folded);
        let groups = folded.view([frames, height, width, self.outputs, channels / self.outputs]);
        let mean = groups.mean_dim([-1i64].as_slice(), false, None::<Kind>);
        Some(fold(&y, self.stride) + mean)
    }
}

/// `[t, h, w, c]` → `[t / time, h / space, w / space, c * time * space²]`, channels outermost.
fn fold(x: &Tensor, [time, space]: [i64; 2]) -> Tensor {
    let (frames, height, width, channels) = size4(x);
    let (frames, height, width) = (frames / time, height / space, width / space);
    x.reshape([frames, time, height, space, width, space, channels]).permute([0, 2, 4, 6, 1, 3, 5]).reshape([
        frames,
        height,
        width,
        channels * time * space * space,
    ])
}

/// Doubles size or rate: channels of a convolution become pixels and frames.
pub(super) struct Upsample {
    conv: StreamConv,
    /// Time and space.
    stride: [i64; 2],
    outputs: i64,
    residual: bool,
    slot: usize,
    begun: usize,
}

impl Upsample {
    pub(super) fn load(
        weights: &Weights,
        layer: &Layer,
        slots: &mut Slots,
        style: ConvStyle,
    ) -> Result<Self, TensorError> {
        let (outputs, cell) = (layer.outputs, layer.cell());
        let channels = [layer.inputs, layer.conv_outputs()];
        // The checkpoint has the cell innermost; outermost, whole runs of channels become pixels.
        let conv = StreamConv::load_arranged(
            &weights.at("conv"),
            slots,
            style,
            channels,
            |weight| weight.view([outputs, cell, channels[0], 3, 3, 3]).transpose(0, 1).flatten(0, 1),
            |bias| bias.view([outputs, cell]).transpose(0, 1).flatten(0, 1),
        )?;
        Ok(Self {
            conv,
            stride: layer.stride(),
            outputs,
            residual: matches!(layer.kind, LayerKind::Up { residual: true, .. }),
            slot: slots.next(),
            begun: slots.next(),
        })
    }

    /// `[t, h, w, in]` → `[2 t', 2 h, 2 w, out]` or a part of that, as the stride says; the first frame is not doubled.
    pub(super) fn forward(&self, x: &Tensor, last: bool, cache: &mut FeatureCache) -> Option<Tensor> {
        let y = self.conv.forward(x, last, cache);
        let completed = y.as_ref().map_or(0, |y| y.size()[0]);
        let y = y.map(|y| {
            let (frames, height, width, _) = size4(&y);
            let cells = y.view([frames, height, width, -1, self.outputs]);
            unfold(&cells, self.stride)
        });
        if self.residual {
            cache.delay(self.slot, x, completed, |start, x| {
                if let Some(y) = &y {
                    self.add_residual(&y.narrow(0, start * self.stride[0], x.size()[0] * self.stride[0]), x);
                }
            });
        }
        let y = y?;
        if self.stride[0] == 1 || !cache.first(self.begun) {
            return Some(y);
        }
        Some(y.narrow(0, 1, y.size()[0] - 1))
    }

    /// Adds the input's own channels as pixels, repeated to the number of outputs.
    fn add_residual(&self, y: &Tensor, x: &Tensor) {
        let (frames, height, width, channels) = size4(x);
        let cell = self.stride[0] * self.stride[1] * self.stride[1];
        let cells = x.view([frames, height, width, channels / cell, cell]).transpose(3, 4);
        let x = unfold(&cells, self.stride).unsqueeze(3);
        let (frames, height, width, _) = size4(y);
        let _ = y.view([frames, height, width, -1, channels / cell]).g_add_(&x);
    }
}

/// Cells `[t, h, w, time * space², c]` → `[t * time, h * space, w * space, c]`.
pub(super) fn unfold(cells: &Tensor, [time, space]: [i64; 2]) -> Tensor {
    let size = cells.size();
    let (frames, height, width, channels) = (size[0], size[1], size[2], size[4]);
    cells
        .reshape([frames, height, width, time, space, space, channels])
        .permute([0, 3, 1, 4, 2, 5, 6])
        .reshape([frames * time, height * space, width * space, channels])
}

/// Folds pixels into channels: `[t, h, w, 3]` → `[t, h / p, w / p, 3 * p²]`, in the order of the checkpoints: colour,
/// column, row.
pub(super) fn patches(x: &Tensor, patch: i64) -> Tensor {
    let (frames, height, width, colours) = size4(x);
    let (height, width) = (height / patch, width / patch);
    x.reshape([frames, height, patch, width, patch, colours]).permute([0, 1, 3, 5, 4, 2]).reshape([
        frames,
        height,
        width,
        colours * patch * patch,
    ])
}

/// The reverse of [`patches`].
pub(super) fn pixels(x: &Tensor, patch: i64) -> Tensor {
    let (frames, height, width, channels) = size4(x);
    let colours = channels / (patch * patch);
    x.view([frames, height, width, colours, patch, patch]).permute([0, 1, 5, 2, 4, 3]).reshape([
        frames,
        height * patch,
        width * patch,
        colours,
    ])
}
