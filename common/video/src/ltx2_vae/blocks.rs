//! Blocks of encoder and decoder, each of which takes a video piece by piece.

use tch::{Device, Tensor};
use videosdgx_tensor::{TensorError, Weights};

use super::conv::{ConvStyle, StreamConv};
use super::plan::{Layer, LayerKind};
use super::resample::{Downsample, Upsample};
use crate::autoencoder::{ChannelNorm, FeatureCache, Slots};

/// Of the normalisation over channels.
const NORM_EPS: f64 = 1e-8;

/// A loaded layer.
pub(super) enum Block {
    Conv(StreamConv),
    Residual(Box<ResidualBlock>),
    Down(Downsample),
    Up(Upsample),
    Head(Head),
}

impl Block {
    pub(super) fn load(
        root: &Weights,
        layer: &Layer,
        slots: &mut Slots,
        style: ConvStyle,
    ) -> Result<Self, TensorError> {
        let weights = root.at(&layer.name);
        Ok(match layer.kind {
            LayerKind::Conv => {
                Self::Conv(StreamConv::load(&weights, slots, style, [layer.inputs, layer.outputs])?)
            }
            LayerKind::Residual => {
                Self::Residual(Box::new(ResidualBlock::load(&weights, slots, style, layer.inputs)?))
            }
            LayerKind::Down { .. } => Self::Down(Downsample::load(&weights, layer, slots, style)?),
            LayerKind::Up { .. } => Self::Up(Upsample::load(&weights, layer, slots, style)?),
            LayerKind::Head => Self::Head(Head::load(&weights, layer, slots, style)?),
        })
    }

    /// The next frames `[t, h, w, in]`, `last` with the end of the video → the frames that they complete,
    /// `[t', h', w', out]`; `None` if there are none.
    pub(super) fn forward(&self, x: Tensor, last: bool, cache: &mut FeatureCache) -> Option<Tensor> {
        match self {
            Self::Conv(conv) => conv.forward(&x, last, cache),
            Self::Residual(block) => block.forward(&x, last, cache),
            Self::Down(step) => step.forward(&x, cache),
            Self::Up(step) => step.forward(&x, last, cache),
            Self::Head(head) => head.forward(&x, last, cache),
        }
    }
}

/// Two convolutions with a residual connection.
pub(super) struct ResidualBlock {
    norm: ChannelNorm,
    conv1: StreamConv,
    conv2: StreamConv,
    slot: usize,
}

impl ResidualBlock {
    fn load(
        weights: &Weights,
        slots: &mut Slots,
        style: ConvStyle,
        channels: i64,
    ) -> Result<Self, TensorError> {
        Ok(Self {
            norm: norm(channels, weights.device()),
            conv1: StreamConv::load(&weights.at("conv1"), slots, style, [channels; 2])?,
            conv2: StreamConv::load(&weights.at("conv2"), slots, style, [channels; 2])?,
            slot: slots.next(),
        })
    }

    fn forward(&self, x: &Tensor, last: bool, cache: &mut FeatureCache) -> Option<Tensor> {
        let y = self.conv1.forward(&self.norm.silu(x), last, cache);
        let mut y = y.and_then(|y| self.conv2.forward(&self.norm.silu(&y), last, cache));
        let completed = y.as_ref().map_or(0, |y| y.size()[0]);
        cache.delay(self.slot, x, completed, |start, x| {
            if let Some(y) = &mut y {
                let _ = y.narrow(0, start, x.size()[0]).g_add_(x);
            }
        });
        y
    }
}

/// Final norm, activation and convolution.
pub(super) struct Head {
    norm: ChannelNorm,
    conv: StreamConv,
}

impl Head {
    fn load(
        weights: &Weights,
        layer: &Layer,
        slots: &mut Slots,
        style: ConvStyle,
    ) -> Result<Self, TensorError> {
        Ok(Self {
            norm: norm(layer.inputs, weights.device()),
            conv: StreamConv::load(weights, slots, style, [layer.inputs, layer.outputs])?,
        })
    }

    fn forward(&self, x: &Tensor, last: bool, cache: &mut FeatureCache) -> Option<Tensor> {
        self.conv.forward(&self.norm.silu(x), last, cache)
    }
}

fn norm(channels: i64, device: Device) -> ChannelNorm {
    ChannelNorm::without_gamma(channels, NORM_EPS, device)
}
