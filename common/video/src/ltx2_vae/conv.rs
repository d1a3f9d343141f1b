//! Convolutions over time that take a video piece by piece.

use tch::Tensor;
use videosdgx_tensor::{TensorError, Weights};

use crate::autoencoder::{FeatureCache, FrameConv, Slots, frames_together, remember};

/// What the convolutions of an encoder or decoder have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConvStyle {
    /// Whether a convolution sees the next frame: it then gives its results one frame late.
    pub(super) lookahead: bool,
    /// Whether borders are reflected; otherwise they are zeros.
    pub(super) reflect: bool,
    /// Whether the pieces are small enough to be convolved whole; otherwise large frames are convolved one by one.
    pub(super) small_pieces: bool,
}

/// A 3 × 3 × 3 convolution that keeps the size. The first frame is repeated before the beginning of the video and, with
/// lookahead, the last one after its end.
pub(super) struct StreamConv {
    conv: FrameConv,
    style: ConvStyle,
    slot: usize,
}

impl StreamConv {
    /// Loads `conv.weight` `[outputs, inputs, 3, 3, 3]` and `conv.bias`.
    pub(super) fn load(
        weights: &Weights,
        slots: &mut Slots,
        style: ConvStyle,
        channels: [i64; 2],
    ) -> Result<Self, TensorError> {
        Self::load_arranged(weights, slots, style, channels, |weight| weight, |bias| bias)
    }

    /// As [`StreamConv::load`], with the channels of weight and bias rearranged.
    pub(super) fn load_arranged(
        weights: &Weights,
        slots: &mut Slots,
        style: ConvStyle,
        [inputs, outputs]: [i64; 2],
        arrange_weight: impl FnOnce(Tensor) -> Tensor,
        arrange_bias: impl FnOnce(Tensor) -> Tensor,
    ) -> Result<Self, TensorError> {
        let weights = weights.at("conv");
        let weight = arrange_weight(weights.tensor("weight", &[outputs, inputs, 3, 3, 3])?);
        let bias = arrange_bias(weights.tensor("bias", &[outputs])?);
        let padding = i64::from(!style.reflect);
        Ok(Self { conv: FrameConv::new(&weight, bias, padding), style, slot: slots.next() })
    }

    /// The next frames `[t, h, w, in]`, `last` with the end of the video → the frames that they complete,
    /// `[t', h, w, out]`; `None` if there are none.
    pub(super) fn forward(&self, x: &Tensor, last: bool, cache: &mut FeatureCache) -> Option<Tensor> {
        let x = if self.style.reflect { &reflected(x) } else { x };
        let past = cache.past(self.slot);
        let mut frames = x.split(1, 0);
        match &past {
            Some(past) => drop(frames.splice(0..0, past.split(1, 0))),
            None => {
                let copies = if self.style.lookahead { 1 } else { 2 };
                let first: Vec<Tensor> = (0..copies).map(|_| frames[0].shallow_clone()).collect();
                drop(frames.splice(0..0, first));
            }
        }
        let seen = frames.len();
        if last && self.style.lookahead {
            frames.push(frames[seen - 1].shallow_clone());
        }
        let together = if self.style.small_pieces { usize::MAX } else { frames_together(x) };
        let output = (frames.len() > 2).then(|| self.conv.forward(&frames, together));
        match past {
            Some(past) => remember(&past, x),
            None => cache.set(self.slot, Tensor::cat(&frames[seen - 2..seen], 0)),
        }
        output
    }
}

/// Adds a border of one pixel that repeats the pixel next but one: `[t, h, w, c]` → `[t, h + 2, w + 2, c]`. Where there
/// is a single pixel, it is repeated.
fn reflected(x: &Tensor) -> Tensor {
    let mut x = x.permute([0, 3, 1, 2]);
    let size = x.size();
    if size[2] > 1 && size[3] > 1 {
        x = x.reflection_pad2d([1, 1, 1, 1]);
    } else {
        for (axis, border) in [(2, [0, 0, 1, 1]), (3, [1, 1, 0, 0])] {
            x = if size[axis] > 1 { x.reflection_pad2d(border) } else { x.replication_pad2d(border) };
        }
    }
    x.permute([0, 2, 3, 1]).contiguous()
}
