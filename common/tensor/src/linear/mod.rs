//! Linear layers in every weight format.

mod adapters;
mod weight;
mod widened;

use tch::{Device, Kind, Tensor};

use crate::quantized::HostWeight;
use crate::{Quantization, TensorError};
pub(crate) use adapters::Adapters;
pub use adapters::{AdaptableLayers, LayerDelta, LayerShape};
use weight::Weight;

/// A linear layer `y = x · Wᵀ + b`, with a weight in any format.
///
/// ```
/// use videosdgx_tensor::{Device, Kind, Linear, Quantization, Tensor};
///
/// # fn main() -> Result<(), videosdgx_tensor::TensorError> {
/// let weight = Tensor::randn([128, 64], (Kind::Float, Device::Cpu));
/// let layer = Linear::quantized(&weight, Quantization::Nf4, None, Kind::Float, Device::Cpu)?;
/// let output = layer.forward(&Tensor::randn([2, 64], (Kind::Float, Device::Cpu)));
/// assert_eq!(output.size(), [2, 128]);
/// # Ok(())
/// # }
/// ```
///
/// On the CPU a dense weight is multiplied by libtorch, or for few rows of input by this crate's kernel. Integer
/// blocks (GGUF's, int4) are multiplied as integers. 8-bit floats, NF4 and NVFP4 are decoded during the
/// multiplication for few rows, and widened block by block for many. On a GPU every packed format is widened block by
/// block by libtorch's operators.
///
/// A layer of [`crate::Weights::adaptable`] adds the changes that [`AdaptableLayers`] has for it.
pub struct Linear {
    weight: Weight,
    bias: Option<Tensor>,
    adapters: Adapters,
}

impl Linear {
    /// A layer with `weight` `[out, in]` and `bias` `[out]`, both in the compute type.
    pub fn dense(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight: Weight::Dense(weight), bias, adapters: Adapters::default() }
    }

    /// Quantises `weight` `[out, in]` (f32, f16 or bf16, on the CPU). The layer computes in `kind` on `device`;
    /// `bias` is `[out]` in `kind` on `device`. A weight whose rows are not a multiple of the format's block stays
    /// dense.
    ///
    /// # Errors
    /// [`TensorError::OutOfMemory`].
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

    /// A layer whose weight is the concatenation of `parts` along the outputs, for computing in `kind` on `device`.
    pub(crate) fn from_parts(
        parts: Vec<HostWeight>,
        bias: Option<Tensor>,
        kind: Kind,
        device: Device,
    ) -> Result<Self, TensorError> {
        Ok(Self { weight: Weight::new(parts, kind, device)?, bias, adapters: Adapters::default() })
    }

    /// The same layer, changed by `adapters`.
    pub(crate) fn with_adapters(self, adapters: Adapters) -> Self {
        Self { adapters, ..self }
    }

    /// Applies the layer: `[…, in]` → `[…, out]`, both in the compute type.
    pub fn forward(&self, input: &Tensor) -> Tensor {
        let output = self.weight.linear(input, self.bias.as_ref());
        self.adapters.add_to(&output, input);
        output
    }

    /// A second handle to the same layer, sharing its storage.
    pub fn shared(&self) -> Self {
        Self {
            weight: self.weight.shared(),
            bias: self.bias.as_ref().map(Tensor::shallow_clone),
            adapters: self.adapters.clone(),
        }
    }

    /// Rows `ids` `[n]` of the weight → `[n, in]` in `kind` on `device`.
    pub(crate) fn rows_at(&self, ids: &Tensor, kind: Kind, device: Device) -> Tensor {
        self.weight.rows_at(&ids.to_device(device).to_kind(Kind::Int64), kind)
    }

    /// Bytes of weight and bias in memory.
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
