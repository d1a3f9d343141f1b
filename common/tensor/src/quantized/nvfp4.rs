//! NVFP4: e2m1 values, an e4m3 scale for each 16 of them and one f32 scale for the tensor; the low nibble comes
//! first. Two variants are published: NVIDIA's Model Optimizer multiplies by the tensor's scale, compressed-tensors
//! divides by it.

use tch::{Kind, Tensor};

use super::{allocate, e4m3};
use crate::cpu::{CodedRow, Pages};
use crate::{TensorError, host, parallel, simd};

/// Values that share an e4m3 scale.
pub(super) const BLOCK: usize = 16;

/// e2m1: 1 sign, 2 exponent, 1 mantissa bit.
pub(super) const TABLE: [f32; 16] =
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];
const MAX: f32 = 6.0;

/// The tensor's scale, and how it is applied.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum GlobalScale {
    /// Multiplied: Model Optimizer's `weight_scale_2`.
    Times(f32),
    /// Divided by: compressed-tensors' `weight_global_scale`.
    Over(f32),
}

/// `[rows, width]`, `width` a multiple of 16: `value = e2m1(code) · (e4m3(scale) · global)`.
pub(crate) struct Nvfp4 {
    pub(super) rows: usize,
    pub(super) width: usize,
    /// `[rows, width / 2]`.
    pub(super) codes: Pages,
    /// `[rows, width / 16]` e4m3.
    pub(super) scales: Pages,
    pub(super) global: GlobalScale,
    /// The value of each e4m3 code combined with the tensor's scale.
    pub(super) combined: Box<[f32; 256]>,
}

impl Nvfp4 {
    pub(super) fn new(
        (rows, width): (usize, usize),
        codes: Pages,
        scales: Pages,
        global: GlobalScale,
    ) -> Self {
        let fits = width.is_multiple_of(BLOCK)
            && codes.len() == rows * width / 2
            && scales.len() == rows * width / BLOCK;
        assert!(fits, "{rows} × {width}");
        let mut combined = Box::new([0f32; 256]);
        for (code, value) in (0..=255u8).zip(combined.iter_mut()) {
            *value = match global {
                GlobalScale::Times(global) => e4m3::decode(code) * global,
                GlobalScale::Over(global) => e4m3::decode(code) / global,
            };
        }
        Self { rows, width, codes, scales, global, combined }
    }

    /// Quantises `[rows, width]` on the host as Model Optimizer does: the tensor's scale makes the largest block
    /// scale the largest e4m3 value. `None` when `width` is not a multiple of 16.
    pub(crate) fn quantize(weight: &Tensor) -> Result<Option<Self>, TensorError> {
        let (rows, width) = super::host_weight::sizes(weight)?;
        if !width.is_multiple_of(BLOCK) {
            return Ok(None);
        }
        let weight = weight.f_to_kind(Kind::Float)?.f_contiguous()?;
        let values = host::slice::<f32>(&weight);
        let largest =
            simd::vectorized(|| values.iter().fold(0f32, |largest, value| largest.max(value.abs())));
        let global = if largest > 0.0 && largest.is_finite() { largest / (MAX * e4m3::MAX) } else { 1.0 };
        let mut codes = allocate((rows * width / 2) as u64)?;
        let mut scales = allocate((rows * width / BLOCK) as u64)?;
        parallel::rows_with(codes.bytes_mut(), BLOCK / 2, scales.bytes_mut(), |first, codes, scales| {
            let blocks = values[first * BLOCK..].chunks(BLOCK);
            for ((codes, scale), values) in codes.chunks_mut(BLOCK / 2).zip(scales).zip(blocks) {
                let largest = values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
                *scale = e4m3::encode(largest / MAX / global);
                let unit = e4m3::decode(*scale) * global;
                let inverse = if unit > 0.0 { 1.0 / unit } else { 0.0 };
                for (code, pair) in codes.iter_mut().zip(values.chunks(2)) {
                    *code = nearest(pair[0] * inverse) | nearest(pair[1] * inverse) << 4;
                }
            }
        });
        Ok(Some(Self::new((rows, width), codes, scales, GlobalScale::Times(global))))
    }

    pub(super) fn decode_row(&self, row: usize, out: &mut [f32]) {
        let codes = &self.codes.bytes()[row * self.width / 2..][..self.width / 2];
        let scales = &self.scales.bytes()[row * self.width / BLOCK..];
        simd::vectorized(|| {
            let blocks = out.chunks_exact_mut(BLOCK).zip(codes.chunks_exact(BLOCK / 2)).zip(scales);
            for ((out, codes), &scale) in blocks {
                let scale = self.combined[usize::from(scale)];
                for (pair, &code) in out.chunks_exact_mut(2).zip(codes) {
                    pair[0] = TABLE[usize::from(code & 15)] * scale;
                    pair[1] = TABLE[usize::from(code >> 4)] * scale;
                }
            }
        });
    }

    /// Row `row`; its scales are written to `buffer` `[width / 16]`.
    pub(super) fn coded_row<'a>(&'a self, row: usize, buffer: &'a mut [f32]) -> CodedRow<'a> {
        let blocks = self.width / BLOCK;
        let scales = &self.scales.bytes()[row * blocks..][..blocks];
        for (out, &scale) in buffer.iter_mut().zip(scales) {
            *out = self.combined[usize::from(scale)];
        }
        CodedRow {
            codes: &self.codes.bytes()[row * self.width / 2..][..self.width / 2],
            scales: &buffer[..blocks],
        }
    }

    pub(super) fn resident_bytes(&self) -> u64 {
        (self.codes.len() + self.scales.len() + 1024) as u64
    }
}

/// The code of the e2m1 value nearest to `value`, ties to the even mantissa; larger values become the largest.
fn nearest(value: f32) -> u8 {
    const BETWEEN: [f32; 7] = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0];
    let magnitude = value.abs();
    let above = BETWEEN.iter().enumerate();
    let code = above
        .filter(|(index, bound)| magnitude > **bound || (magnitude == **bound && index % 2 == 1))
        .count();
    code as u8 | u8::from(value.is_sign_negative()) << 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_to_e2m1_is_to_nearest_with_ties_to_even() {
        for (code, &value) in TABLE.iter().enumerate() {
            assert_eq!(usize::from(nearest(value)), code);
        }
        for (value, expected) in
            [(0.25, 0.0), (0.75, 1.0), (1.25, 1.0), (1.75, 2.0), (2.5, 2.0), (3.5, 4.0), (5.0, 4.0)]
        {
            assert_eq!(TABLE[usize::from(nearest(value))], expected, "{value}");
            assert_eq!(TABLE[usize::from(nearest(-value))], -expected, "{value}");
        }
        assert_eq!(TABLE[usize::from(nearest(100.0))], 6.0);
    }
}
