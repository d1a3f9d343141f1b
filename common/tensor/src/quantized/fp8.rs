//! Weights in e4m3 with f32 scales: one for the tensor, one for each output channel, or one for each block of 128 ×
//! 128 (FP8 checkpoints of DeepSeek-V3 and Qwen, `weight_scale_inv`; compressed-tensors, `weight_scale`).

use half::{bf16, f16};
use tch::{Kind, Tensor};

use super::{allocate, e4m3};
use crate::cpu::{CodedRow, Pages};
use crate::host::HostFloat;
use crate::{TensorError, host, parallel, simd};

/// `[rows, width]`: `value = e4m3(code) · scale` of its block.
pub(crate) struct Fp8 {
    pub(super) rows: usize,
    pub(super) width: usize,
    pub(super) codes: Pages,
    /// `[⌈rows / block.0⌉, ⌈width / block.1⌉]`.
    pub(super) scales: Vec<f32>,
    /// Rows and columns that share a scale.
    pub(super) block: (usize, usize),
}

impl Fp8 {
    /// `codes` has `rows · width` bytes, `scales` one number for each block.
    pub(super) fn new(
        rows: usize,
        width: usize,
        codes: Pages,
        scales: Vec<f32>,
        block: (usize, usize),
    ) -> Self {
        let block = (block.0.max(1), block.1.max(1));
        let grid = rows.div_ceil(block.0) * width.div_ceil(block.1);
        assert!(
            codes.len() == rows * width && scales.len() == grid,
            "{rows} × {width} in blocks of {block:?}"
        );
        Self { rows, width, codes, scales, block }
    }

    /// Quantises `[rows, width]` on the host with one scale for each row: `scale = max|row| / 448`, `code = e4m3(w /
    /// scale)`.
    pub(crate) fn quantize(weight: &Tensor) -> Result<Self, TensorError> {
        let (rows, width) = super::host_weight::sizes(weight)?;
        let weight = weight.f_contiguous()?;
        let mut codes = allocate((rows * width) as u64)?;
        let mut scales = vec![0f32; rows];
        match weight.kind() {
            Kind::BFloat16 => {
                quantize_rows(host::slice::<bf16>(&weight), codes.bytes_mut(), &mut scales, width)
            }
            Kind::Half => quantize_rows(host::slice::<f16>(&weight), codes.bytes_mut(), &mut scales, width),
            _ => {
                let weight = weight.f_to_kind(Kind::Float)?;
                quantize_rows(host::slice::<f32>(&weight), codes.bytes_mut(), &mut scales, width);
            }
        }
        Ok(Self::new(rows, width, codes, scales, (1, width)))
    }

    pub(super) fn decode_row(&self, row: usize, out: &mut [f32]) {
        let across = self.width.div_ceil(self.block.1);
        let scales = &self.scales[row / self.block.0 * across..][..across];
        let codes = &self.codes.bytes()[row * self.width..][..self.width];
        simd::vectorized(|| {
            let blocks = out.chunks_mut(self.block.1).zip(codes.chunks(self.block.1));
            for ((out, codes), &scale) in blocks.zip(scales) {
                for (value, &code) in out.iter_mut().zip(codes) {
                    *value = e4m3::decode(code) * scale;
                }
            }
        });
    }

    /// Whether some value is NaN.
    pub(super) fn has_nan(&self) -> bool {
        let codes = self.codes.bytes();
        simd::vectorized(|| {
            codes.chunks(4096).any(|codes| codes.iter().fold(false, |nan, code| nan | (code & 0x7f == 0x7f)))
        })
    }

    /// Row `row`, with a scale for each `block.1` values.
    pub(super) fn coded_row(&self, row: usize) -> CodedRow<'_> {
        let across = self.width.div_ceil(self.block.1);
        CodedRow {
            codes: &self.codes.bytes()[row * self.width..][..self.width],
            scales: &self.scales[row / self.block.0 * across..][..across],
        }
    }

    pub(super) fn resident_bytes(&self) -> u64 {
        (self.codes.len() + 4 * self.scales.len()) as u64
    }
}

fn quantize_rows<T: HostFloat>(weight: &[T], codes: &mut [u8], scales: &mut [f32], width: usize) {
    if width == 0 {
        return;
    }
    parallel::rows_with(codes, width, scales, |first, codes, scales| {
        let rows = weight[first * width..].chunks(width);
        simd::vectorized(|| {
            for ((codes, scale), row) in codes.chunks_mut(width).zip(scales).zip(rows) {
                let largest = row.iter().fold(0f32, |largest, &value| largest.max(value.widen().abs()));
                *scale = if largest > 0.0 && largest.is_finite() { largest / e4m3::MAX } else { 1.0 };
                let inverse = 1.0 / *scale;
                for (code, &value) in codes.iter_mut().zip(row) {
                    *code = e4m3::encode(value.widen() * inverse);
                }
            }
        });
    });
}
