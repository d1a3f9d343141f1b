//! Formats that are held packed and decoded row by row while multiplying.

use half::{bf16, f16};
use tch::{Device, Kind, Tensor};

use super::{Fp8, Ggml, Nf4, Nvfp4};
use crate::host::HostFloat;
use crate::{TensorError, host, parallel};

/// One weight `[rows, width]` on the host.
pub(crate) enum Packed {
    Fp8(Fp8),
    Nf4(Nf4),
    Nvfp4(Nvfp4),
    Ggml(Ggml),
}

impl Packed {
    pub(crate) fn rows(&self) -> usize {
        match self {
            Self::Fp8(weight) => weight.rows,
            Self::Nf4(weight) => weight.rows,
            Self::Nvfp4(weight) => weight.rows,
            Self::Ggml(weight) => weight.rows,
        }
    }

    pub(crate) fn width(&self) -> usize {
        match self {
            Self::Fp8(weight) => weight.width,
            Self::Nf4(weight) => weight.width,
            Self::Nvfp4(weight) => weight.width,
            Self::Ggml(weight) => weight.width,
        }
    }

    /// Writes the values of row `row` to `out` `[width]`.
    fn decode_row(&self, row: usize, out: &mut [f32]) {
        match self {
            Self::Fp8(weight) => weight.decode_row(row, out),
            Self::Nf4(weight) => weight.decode_row(row, out),
            Self::Nvfp4(weight) => weight.decode_row(row, out),
            Self::Ggml(weight) => weight.decode_row(row, out),
        }
    }

    fn resident_bytes(&self) -> u64 {
        match self {
            Self::Fp8(weight) => weight.resident_bytes(),
            Self::Nf4(weight) => weight.resident_bytes(),
            Self::Nvfp4(weight) => weight.resident_bytes(),
            Self::Ggml(weight) => weight.resident_bytes(),
        }
    }
}

/// Weights of one width below one another, each with its own scales.
pub(crate) struct PackedRows {
    /// Number of the first row, and the weight.
    parts: Vec<(usize, Packed)>,
    rows: usize,
    width: usize,
}

impl PackedRows {
    pub(crate) fn new(weights: Vec<Packed>) -> Self {
        let width = weights.first().map_or(0, Packed::width);
        assert!(weights.iter().all(|weight| weight.width() == width), "weights of several widths");
        let mut rows = 0;
        let mut parts = Vec::with_capacity(weights.len());
        for weight in weights {
            let first = rows;
            rows += weight.rows();
            parts.push((first, weight));
        }
        Self { parts, rows, width }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn width(&self) -> usize {
        self.width
    }

    pub(crate) fn parts(&self) -> impl Iterator<Item = &Packed> {
        self.parts.iter().map(|(_, weight)| weight)
    }

    /// Writes the values of row `row` to `out` `[width]`.
    pub(crate) fn decode_row(&self, row: usize, out: &mut [f32]) {
        let part = self.parts.partition_point(|(first, _)| *first <= row) - 1;
        let (first, weight) = &self.parts[part];
        weight.decode_row(row - first, out);
    }

    /// Rows `first..first + count` in `kind`.
    pub(crate) fn dense(&self, first: usize, count: usize, kind: Kind) -> Result<Tensor, TensorError> {
        let output = Tensor::f_empty([count as i64, self.width as i64], (kind, Device::Cpu))?;
        match kind {
            Kind::BFloat16 => self.write(first, host::slice_mut::<bf16>(&output)),
            Kind::Half => self.write(first, host::slice_mut::<f16>(&output)),
            Kind::Float => self.write(first, host::slice_mut::<f32>(&output)),
            other => return Ok(self.dense(first, count, Kind::Float)?.f_to_kind(other)?),
        }
        Ok(output)
    }

    fn write<T: HostFloat>(&self, start: usize, output: &mut [T]) {
        parallel::rows(output, self.width, |first, output| {
            let mut values = vec![0f32; self.width];
            for (row, output) in (start + first..).zip(output.chunks_mut(self.width.max(1))) {
                self.decode_row(row, &mut values);
                crate::simd::vectorized(|| {
                    for (output, &value) in output.iter_mut().zip(&values) {
                        *output = T::narrow(value);
                    }
                });
            }
        });
    }

    pub(crate) fn resident_bytes(&self) -> u64 {
        self.parts().map(Packed::resident_bytes).sum()
    }
}
