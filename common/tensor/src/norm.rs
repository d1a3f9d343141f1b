//! Normalisations, computed in f32 for every element type of the activations.

use tch::{Kind, Tensor};

use crate::{TensorError, Weights};

/// Layer normalisation over the last dimension: statistics, scale and shift in f32, result in the input's type.
pub struct LayerNorm {
    weight: Option<Tensor>,
    bias: Option<Tensor>,
    width: i64,
    eps: f64,
}

impl LayerNorm {
    /// A normalisation without weight and bias.
    pub fn without_affine(width: i64, eps: f64) -> Self {
        Self { weight: None, bias: None, width, eps }
    }

    /// Loads `weight` and `bias` `[width]` from the checkpoint, in f32.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn load(weights: &Weights, width: i64, eps: f64) -> Result<Self, TensorError> {
        let weight = Some(weights.tensor_as("weight", &[width], Kind::Float)?);
        let bias = Some(weights.tensor_as("bias", &[width], Kind::Float)?);
        Ok(Self { weight, bias, width, eps })
    }

    /// `[…, width]` → `[…, width]`.
    pub fn forward(&self, input: &Tensor) -> Tensor {
        layer_norm(input, self.width, self.weight.as_ref(), self.bias.as_ref(), self.eps)
    }

    /// Adaptive normalisation (Peebles & Xie 2022): `norm(x) · (1 + scale) + shift`. `one_plus_scale` and `shift` are
    /// `[width]` f32, the same for the whole batch. For normalisations without weight and bias.
    pub fn modulated(&self, input: &Tensor, one_plus_scale: &Tensor, shift: &Tensor) -> Tensor {
        layer_norm(input, self.width, Some(one_plus_scale), Some(shift), self.eps)
    }
}

fn layer_norm(
    input: &Tensor,
    width: i64,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Tensor {
    let kind = input.kind();
    // libtorch's CPU kernel accepts 16-bit activations with f32 weights and computes in f32: one pass, no copies.
    if kind == Kind::Float || (weight.is_some() && input.device() == tch::Device::Cpu) {
        return input.layer_norm([width], weight, bias, eps, false);
    }
    input.to_kind(Kind::Float).layer_norm([width], weight, bias, eps, false).to_kind(kind)
}

/// Root mean square normalisation (Zhang & Sennrich 2019) over the last dimension.
pub struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    /// A normalisation with `weight` `[width]` in f32.
    pub fn new(weight: Tensor, eps: f64) -> Self {
        Self { weight: weight.to_kind(Kind::Float), eps }
    }

    /// Loads `weight` `[width]` from the checkpoint.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn load(weights: &Weights, width: i64, eps: f64) -> Result<Self, TensorError> {
        Ok(Self { weight: weights.tensor_as("weight", &[width], Kind::Float)?, eps })
    }

    /// The weight, `[width]` f32.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The epsilon added under the square root.
    pub fn eps(&self) -> f64 {
        self.eps
    }

    /// `x / √(mean(x²) + eps) · weight` in f32, result in the input's type.
    pub fn forward(&self, input: &Tensor) -> Tensor {
        let wide = input.to_kind(Kind::Float);
        let mean = (&wide * &wide).mean_dim([-1i64].as_slice(), true, Kind::Float);
        (wide * (mean + self.eps).rsqrt() * &self.weight).to_kind(input.kind())
    }
}
