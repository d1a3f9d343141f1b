//! Blocks of encoder and decoder.

use tch::Tensor;
use videosdgx_tensor::{TensorError, Weights};

use super::conv::{CausalConv, Pointwise};
use crate::autoencoder::{ChannelNorm, FeatureCache, Slots, size4};

/// Avoids a division by zero for pixels that are zero in all channels.
const NORM_EPS: f64 = 1e-24;

/// Two causal convolutions with a residual connection.
pub(super) struct ResidualBlock {
    norm1: ChannelNorm,
    conv1: CausalConv,
    norm2: ChannelNorm,
    conv2: CausalConv,
    /// Present where the number of channels changes.
    shortcut: Option<Pointwise>,
}

impl ResidualBlock {
    pub(super) fn load(
        weights: &Weights,
        slots: &mut Slots,
        inputs: i64,
        outputs: i64,
    ) -> Result<Self, TensorError> {
        let shortcut = (inputs != outputs)
            .then(|| Pointwise::load(&weights.at("conv_shortcut"), inputs, outputs, 3))
            .transpose()?;
        Ok(Self {
            norm1: ChannelNorm::load(&weights.at("norm1"), inputs, 3, NORM_EPS)?,
            conv1: CausalConv::load(&weights.at("conv1"), slots, inputs, outputs)?,
            norm2: ChannelNorm::load(&weights.at("norm2"), outputs, 3, NORM_EPS)?,
            conv2: CausalConv::load(&weights.at("conv2"), slots, outputs, outputs)?,
            shortcut,
        })
    }

    /// `[t, h, w, in]` → `[t, h, w, out]`.
    pub(super) fn forward(&self, x: Tensor, cache: &mut FeatureCache) -> Tensor {
        let y = self.conv1.forward(&self.norm1.silu(&x), cache);
        let mut y = self.conv2.forward(&self.norm2.silu(&y), cache);
        y += match &self.shortcut {
            Some(shortcut) => shortcut.forward(&x),
            None => x,
        };
        y
    }
}

/// Single-head self-attention over the pixels of each frame.
pub(super) struct AttentionBlock {
    norm: ChannelNorm,
    to_qkv: Pointwise,
    proj: Pointwise,
}

impl AttentionBlock {
    pub(super) fn load(weights: &Weights, channels: i64) -> Result<Self, TensorError> {
        Ok(Self {
            norm: ChannelNorm::load(&weights.at("norm"), channels, 2, NORM_EPS)?,
            to_qkv: Pointwise::load(&weights.at("to_qkv"), channels, 3 * channels, 2)?,
            proj: Pointwise::load(&weights.at("proj"), channels, channels, 2)?,
        })
    }

    /// `[t, h, w, c]` → the same.
    pub(super) fn forward(&self, x: Tensor) -> Tensor {
        let (frames, height, width, channels) = size4(&x);
        let qkv = self.to_qkv.forward(&self.norm.forward(&x));
        let qkv = qkv.view([frames, 1, height * width, 3 * channels]).chunk(3, -1);
        let [q, k, v] = qkv.as_slice() else { unreachable!("chunk(3) gives three parts") };
        let none: Option<&Tensor> = None;
        let y = Tensor::scaled_dot_product_attention(q, k, v, none, 0.0, false, None, false);
        x + self.proj.forward(&y.reshape([frames, height, width, channels]))
    }
}

/// Residual block, attention, residual block at the coarsest level.
pub(super) struct MiddleBlock {
    first: ResidualBlock,
    attention: AttentionBlock,
    second: ResidualBlock,
}

impl MiddleBlock {
    pub(super) fn load(weights: &Weights, slots: &mut Slots, channels: i64) -> Result<Self, TensorError> {
        let resnets = weights.at("resnets");
        Ok(Self {
            first: ResidualBlock::load(&resnets.at(0), slots, channels, channels)?,
            attention: AttentionBlock::load(&weights.at("attentions").at(0), channels)?,
            second: ResidualBlock::load(&resnets.at(1), slots, channels, channels)?,
        })
    }

    pub(super) fn forward(&self, x: Tensor, cache: &mut FeatureCache) -> Tensor {
        let x = self.first.forward(x, cache);
        self.second.forward(self.attention.forward(x), cache)
    }
}

/// Final norm, activation and convolution.
pub(super) struct Head {
    norm: ChannelNorm,
    conv: CausalConv,
}

impl Head {
    /// Loads `norm_out` and `conv_out`.
    pub(super) fn load(
        weights: &Weights,
        slots: &mut Slots,
        inputs: i64,
        outputs: i64,
    ) -> Result<Self, TensorError> {
        Ok(Self {
            norm: ChannelNorm::load(&weights.at("norm_out"), inputs, 3, NORM_EPS)?,
            conv: CausalConv::load(&weights.at("conv_out"), slots, inputs, outputs)?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor, cache: &mut FeatureCache) -> Tensor {
        self.conv.forward(&self.norm.silu(x), cache)
    }
}
