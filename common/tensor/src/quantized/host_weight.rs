//! The weight of a linear layer on the host, as loaded from a checkpoint.

use tch::{Kind, Tensor};

use super::{Fp8, Ggml, Nf4, Nvfp4, PackedRows, PackedWeight};
use crate::{Quantization, TensorError};

/// `[outputs, inputs]`, dense or packed.
pub(crate) enum HostWeight {
    Dense(Tensor),
    Packed(PackedWeight),
}

impl HostWeight {
    /// As a dense tensor: a packed weight in `kind`, a dense one unchanged.
    pub(crate) fn dense(self, kind: Kind) -> Result<Tensor, TensorError> {
        match self {
            Self::Dense(weight) => Ok(weight),
            Self::Packed(weight) => {
                let rows = PackedRows::new(vec![weight]);
                rows.dense(0, rows.rows(), kind)
            }
        }
    }

    /// Quantises a dense weight whose width is a multiple of the format's block; others are returned unchanged.
    pub(crate) fn quantized(self, quantization: Quantization) -> Result<Self, TensorError> {
        let Self::Dense(weight) = &self else { return Ok(self) };
        let packed = match quantization {
            Quantization::None => None,
            Quantization::Fp8 => Some(PackedWeight::Fp8(Fp8::quantize(weight)?)),
            Quantization::Nf4 => Nf4::quantize(weight)?.map(PackedWeight::Nf4),
            Quantization::Nvfp4 => Nvfp4::quantize(weight)?.map(PackedWeight::Nvfp4),
            Quantization::Int4 => Ggml::quantize(weight)?.map(PackedWeight::Ggml),
        };
        Ok(packed.map_or(self, Self::Packed))
    }
}

/// Rows and columns of a matrix.
pub(super) fn sizes(weight: &Tensor) -> Result<(usize, usize), TensorError> {
    let (rows, width) = weight.size2()?;
    let size = |size: i64| usize::try_from(size).map_err(|_| TensorError::Libtorch("a negative size".into()));
    Ok((size(rows)?, size(width)?))
}
