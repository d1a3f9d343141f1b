//! One linear layer for every weight format.

mod weight;
mod widened;

use tch::{Device, Kind, Tensor};

use crate::quantized::HostWeight;
use crate::{Quantization, TensorError};
use weight::Weight;

/// `y = x · Wᵀ + b`, whatever the weight is held in.
///
/// On the CPU: a dense weight is multiplied by libtorch, for few rows by our own kernel; integer blocks (GGUF's, int4) as
/// integers; 8-bit floats, NF4 and NVFP4 are decoded row by row for few rows and widened block by block for many. On a GPU
/// every packed format is widened block by block by libtorch's operators.
pub struct Linear {
    weight: Weight,
    bias: Option<Tensor>,
}

impl Linear {
    /// A layer from `weight` `[out, in]` and `bias` `[out]`, both in the compute type.
    pub fn dense(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight: Weight::Dense(weight), bias }
    }

    /// Quantises `weight` `[out, in]` (f32, f16 or bf16, on the CPU); the layer computes in `kind` on `device`. `bias` is
    /// `[out]` in `kind` on `device`. A weight whose rows are not whole blocks of the format stays dense.
    ///
    /// # Errors
    /// [`TensorError`] when memory runs out.
    pub fn quantized(
        weight: &Tensor,
        quantization: Quantization,
        bias: Option<Tensor>,
        kind: Kind,
        device: Device,
    ) -> Result<Self, TensorError> {
        let stored = HostWeight::Dense(weight.shallow_clone()).quantized(quantization)?;
        Self::from_parts(vec![stored], bias, kind, device)
    }

    /// Weights below one another, in the forms that they are computed with in `kind` on `device`.
    pub(crate) fn from_parts(
        parts: Vec<HostWeight>,
        bias: Option<Tensor>,
        kind: Kind,
        device: Device,
    ) -> Result<Self, TensorError> {
        Ok(Self { weight: Weight::new(parts, kind, device)?, bias })
    }

    /// Applies the layer: `[…, in]` → `[…, out]`, both in the compute type.
    pub fn forward(&self, input: &Tensor) -> Tensor {
        self.weight.linear(input, self.bias.as_ref())
    }

    /// The same layer again, sharing its storage.
    pub fn shared(&self) -> Self {
        Self { weight: self.weight.shared(), bias: self.bias.as_ref().map(Tensor::shallow_clone) }
    }

    /// Rows `ids` `[n]` of the weight → `[n, in]` in `kind` on `device`.
    pub(crate) fn rows_at(&self, ids: &Tensor, kind: Kind, device: Device) -> Tensor {
        self.weight.rows_at(&ids.to_device(device).to_kind(Kind::Int64), kind)
    }

    /// Bytes the weight and bias take.
    pub fn resident_bytes(&self) -> u64 {
        self.weight.resident_bytes() + self.bias.as_ref().map_or(0, tensor_bytes)
    }
}

/// Bytes of a tensor's elements.
pub(crate) fn tensor_bytes(tensor: &Tensor) -> u64 {
    (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64
}

#[cfg(test)]
mod tests;
