//! One linear layer for every weight format.

mod e4m3;
mod fp8;

use tch::{Device, Kind, Tensor};

use crate::TensorError;
use fp8::Fp8;

/// `y = x · Wᵀ + b`, whatever the weight is held in.
pub struct Linear {
    weight: Weight,
    bias: Option<Tensor>,
}

enum Weight {
    /// `[out, in]` in the compute type.
    Dense(Tensor),
    Fp8(Fp8),
}

impl Linear {
    /// A layer from `weight` `[out, in]` and `bias` `[out]`, both in the compute type.
    pub fn dense(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight: Weight::Dense(weight), bias }
    }

    /// Quantises `weight` `[out, in]` (f32, f16 or bf16, on the CPU) to e4m3 with one scale an output channel; the
    /// layer computes in `kind` on `device`. `bias` is `[out]` in `kind` on `device`.
    ///
    /// # Errors
    /// [`TensorError`] when memory runs out.
    pub fn fp8(
        weight: &Tensor,
        bias: Option<Tensor>,
        kind: Kind,
        device: Device,
    ) -> Result<Self, TensorError> {
        Ok(Self { weight: Weight::Fp8(Fp8::quantize(weight, kind, device)?), bias })
    }

    /// Applies the layer: `[…, in]` → `[…, out]`, both in the compute type.
    pub fn forward(&self, input: &Tensor) -> Tensor {
        match &self.weight {
            Weight::Dense(weight) => input.linear(weight, self.bias.as_ref()),
            Weight::Fp8(weight) => weight.linear(input, self.bias.as_ref()),
        }
    }

    /// The same layer again, sharing its storage.
    pub fn shared(&self) -> Self {
        let weight = match &self.weight {
            Weight::Dense(weight) => Weight::Dense(weight.shallow_clone()),
            Weight::Fp8(weight) => Weight::Fp8(weight.shared()),
        };
        Self { weight, bias: self.bias.as_ref().map(Tensor::shallow_clone) }
    }

    /// Rows `ids` `[n]` of the weight → `[n, in]` in `kind` on `device`.
    pub(crate) fn rows_at(&self, ids: &Tensor, kind: Kind, device: Device) -> Tensor {
        let ids = ids.to_device(device).to_kind(Kind::Int64);
        match &self.weight {
            Weight::Dense(weight) => weight.index_select(0, &ids).to_kind(kind),
            Weight::Fp8(weight) => weight.rows_at(&ids),
        }
    }

    /// Bytes the weight and bias take.
    pub fn resident_bytes(&self) -> u64 {
        let weight = match &self.weight {
            Weight::Dense(weight) => tensor_bytes(weight),
            Weight::Fp8(weight) => weight.resident_bytes(),
        };
        weight + self.bias.as_ref().map_or(0, tensor_bytes)
    }
}

/// Bytes of a tensor's elements.
pub(crate) fn tensor_bytes(tensor: &Tensor) -> u64 {
    (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64
}
