//! Normalisations, computed in f32 whatever the activations are held in.

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
    /// Without weight and bias.
    pub fn without_affine(width: i64, eps: f64) -> Self {
        Self { weight: None, bias: None, width, eps }
    }

    /// With `weight` and `bias` `[width]` of the checkpoint, in f32.
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

    /// `norm(x) · (1 + scale) + shift`, adaptive normalisation (Peebles & Xie 2022). `one_plus_scale` and `shift`:
    /// `[width]` f32, the same for the whole batch. For norms without weight and bias.
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
    // libtorch's CPU kernel takes 16-bit activations with f32 weights and computes in f32: one pass, no copies.
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
    /// With `weight` `[width]` in f32.
    pub fn new(weight: Tensor, eps: f64) -> Self {
        Self { weight: weight.to_kind(Kind::Float), eps }
    }

    /// With the `weight` `[width]` of the checkpoint.
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

    /// The epsilon under the root.
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
