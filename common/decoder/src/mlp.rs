//! The gated feed-forward unit (Shazeer 2020, "GLU variants improve transformer").

use tch::Tensor;
use videosdgx_tensor::{Linear, TensorError, Weights, swiglu};

/// `down(silu(gate x) · up x)`.
pub(crate) struct GatedMlp {
    /// Gate and up, concatenated.
    gate_up: Linear,
    down: Linear,
}

/// The names of the linear layers, relative to the layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GatedNames<'a> {
    pub(crate) gate: &'a str,
    pub(crate) up: &'a str,
    pub(crate) down: &'a str,
}

impl GatedMlp {
    pub(crate) fn load(
        weights: &Weights,
        names: GatedNames<'_>,
        hidden: i64,
        intermediate: i64,
        bias: bool,
    ) -> Result<Self, TensorError> {
        let gate_up =
            weights.fused_linear(&[(names.gate, intermediate), (names.up, intermediate)], hidden, bias)?;
        Ok(Self { gate_up, down: weights.linear(names.down, intermediate, hidden, bias)? })
    }

    /// `[rows, hidden]` → `[rows, hidden]`.
    pub(crate) fn forward(&self, input: &Tensor) -> Tensor {
        self.down.forward(&swiglu(&self.gate_up.forward(input)))
    }
}
