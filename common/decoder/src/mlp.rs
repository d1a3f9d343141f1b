//! The gated feed-forward unit (Shazeer 2020, "GLU variants improve transformer").

use tch::Tensor;
use videosdgx_tensor::{Linear, TensorError, Weights, geglu, swiglu};

use crate::Activation;

/// `down(activation(gate x) · up x)`.
pub(crate) struct GatedMlp {
    /// Gate and up, concatenated.
    gate_up: Linear,
    down: Linear,
    activation: Activation,
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
        [hidden, intermediate]: [i64; 2],
        bias: bool,
        activation: Activation,
    ) -> Result<Self, TensorError> {
        let gate_up =
            weights.fused_linear(&[(names.gate, intermediate), (names.up, intermediate)], hidden, bias)?;
        Ok(Self { gate_up, down: weights.linear(names.down, intermediate, hidden, bias)?, activation })
    }

    /// `[rows, hidden]` → `[rows, hidden]`.
    pub(crate) fn forward(&self, input: &Tensor) -> Tensor {
        let gate_up = self.gate_up.forward(input);
        let gated = match self.activation {
            Activation::Silu => swiglu(&gate_up),
            Activation::GeluTanh => geglu(&gate_up),
        };
        self.down.forward(&gated)
    }
}
