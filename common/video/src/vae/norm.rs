//! Root mean square normalisation over channels, alone or with the activation behind it.

use tch::{Kind, Tensor};
use videosdgx_tensor::{TensorError, Weights};

/// `x / ‖x‖ · √channels · gamma`.
pub(super) struct ChannelNorm {
    /// `[channels]` f32.
    gamma: Tensor,
    channels: i64,
}

/// Keeps pixels that are zero in all channels finite.
const EPS: f64 = 1e-24;

impl ChannelNorm {
    /// Loads `gamma` `[channels, 1, …]` of `dimensions` ones.
    pub(super) fn load(weights: &Weights, channels: i64, dimensions: usize) -> Result<Self, TensorError> {
        let shape: Vec<i64> = std::iter::once(channels).chain(std::iter::repeat_n(1, dimensions)).collect();
        let gamma = weights.tensor_as("gamma", &shape, Kind::Float)?.reshape([channels]);
        Ok(Self { gamma, channels })
    }

    /// `[…, channels]` → the same.
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        self.wide(x).to_kind(x.kind())
    }

    /// `silu(norm(x))`.
    pub(super) fn silu(&self, x: &Tensor) -> Tensor {
        self.wide(x).silu_().to_kind(x.kind())
    }

    fn wide(&self, x: &Tensor) -> Tensor {
        x.to_kind(Kind::Float).rms_norm([self.channels], Some(&self.gamma), EPS)
    }
}
