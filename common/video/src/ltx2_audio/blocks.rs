//! Blocks of encoder and decoder, over `[1, time, frequency, channels]`.

use tch::Tensor;
use videosdgx_tensor::{TensorError, Weights};

use super::conv::CausalConv;
use crate::autoencoder::ChannelNorm;

const NORM_EPS: f64 = 1e-6;

/// Two causal convolutions with a residual connection.
struct ResidualBlock {
    norm1: ChannelNorm,
    conv1: CausalConv,
    norm2: ChannelNorm,
    conv2: CausalConv,
    /// Present where the number of channels changes.
    shortcut: Option<CausalConv>,
}

impl ResidualBlock {
    fn load(weights: &Weights, inputs: i64, outputs: i64) -> Result<Self, TensorError> {
        let shortcut = (inputs != outputs)
            .then(|| CausalConv::load(&weights.at("nin_shortcut"), inputs, outputs, 1))
            .transpose()?;
        Ok(Self {
            norm1: ChannelNorm::without_gamma(inputs, NORM_EPS, weights.device()),
            conv1: CausalConv::load(&weights.at("conv1"), inputs, outputs, 3)?,
            norm2: ChannelNorm::without_gamma(outputs, NORM_EPS, weights.device()),
            conv2: CausalConv::load(&weights.at("conv2"), outputs, outputs, 3)?,
            shortcut,
        })
    }

    /// `[1, t, m, in]` → `[1, t, m, out]`.
    fn forward(&self, x: Tensor) -> Tensor {
        let y = self.conv1.forward(&self.norm1.silu(&x));
        let mut y = self.conv2.forward(&self.norm2.silu(&y));
        y += match &self.shortcut {
            Some(shortcut) => shortcut.forward(&x),
            None => x,
        };
        y
    }
}

/// Residual blocks, one after the other; the first changes the number of channels.
pub(super) struct Stage(Vec<ResidualBlock>);

impl Stage {
    /// Loads `block.0`, `block.1`, …
    pub(super) fn load(
        weights: &Weights,
        inputs: i64,
        outputs: i64,
        count: i64,
    ) -> Result<Self, TensorError> {
        let load = |index: i64| {
            let inputs = if index == 0 { inputs } else { outputs };
            ResidualBlock::load(&weights.at("block").at(index), inputs, outputs)
        };
        Ok(Self((0..count).map(load).collect::<Result<_, _>>()?))
    }

    /// Loads the coarsest level, `block_1` and `block_2`.
    pub(super) fn load_middle(weights: &Weights, channels: i64) -> Result<Self, TensorError> {
        let load = |name| ResidualBlock::load(&weights.at(name), channels, channels);
        Ok(Self(vec![load("block_1")?, load("block_2")?]))
    }

    pub(super) fn forward(&self, x: Tensor) -> Tensor {
        self.0.iter().fold(x, |x, block| block.forward(x))
    }
}

/// Final norm, activation and convolution.
pub(super) struct Head {
    norm: ChannelNorm,
    conv: CausalConv,
}

impl Head {
    /// Loads `conv_out`, which has `stored` outputs, and keeps the first `outputs`.
    pub(super) fn load(
        weights: &Weights,
        inputs: i64,
        stored: i64,
        outputs: i64,
    ) -> Result<Self, TensorError> {
        Ok(Self {
            norm: ChannelNorm::without_gamma(inputs, NORM_EPS, weights.device()),
            conv: CausalConv::load_first(&weights.at("conv_out"), [inputs, stored, outputs], 3)?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        self.conv.forward(&self.norm.silu(x))
    }
}
