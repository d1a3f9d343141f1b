//! The feed-forward part of a block.

use videosdgx_tensor::{Linear, Tensor, TensorError, Weights};

use crate::names::TensorList;

/// Ratio of the inner size to the outer one.
const EXPANSION: i64 = 4;

/// Two linear layers with GELU (tanh approximation) between them (`FeedForward` of diffusers).
pub(crate) struct FeedForward {
    first: Linear,
    second: Linear,
}

impl FeedForward {
    pub(crate) fn load(weights: &Weights, width: i64, bias: bool) -> Result<Self, TensorError> {
        Ok(Self {
            first: weights.linear("net.0.proj", width, EXPANSION * width, bias)?,
            second: weights.linear("net.2", EXPANSION * width, width, bias)?,
        })
    }

    pub(crate) fn tensors(list: &mut TensorList, width: i64, bias: bool) {
        list.linear("net.0.proj", width, EXPANSION * width, bias);
        list.linear("net.2", EXPANSION * width, width, bias);
    }

    /// `[batch, tokens, width]` → the same.
    pub(crate) fn forward(&self, hidden: &Tensor) -> Tensor {
        self.second.forward(&self.first.forward(hidden).gelu_("tanh"))
    }
}
