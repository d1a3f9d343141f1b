//! bitsandbytes' NF4 (Dettmers et al. 2023, "QLoRA"): 16 quantiles of a normal distribution, one scale for each 64
//! consecutive values, independent of the rows; the high nibble comes first.

use tch::{Kind, Tensor};

use super::allocate;
use crate::cpu::{CodedRow, Pages};
use crate::{TensorError, host, parallel, simd};

/// Values that share a scale when this crate quantises: bitsandbytes' default.
const BLOCK: usize = 64;

/// bitsandbytes' table.
pub(super) const TABLE: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// `[rows, width]`: `value = table[code] · absmax` of its block.
pub(crate) struct Nf4 {
    pub(super) rows: usize,
    pub(super) width: usize,
    /// `⌈rows · width / 2⌉` bytes.
    pub(super) codes: Pages,
    /// `⌈rows · width / block⌉`.
    pub(super) absmax: Vec<f32>,
    pub(super) block: usize,
    pub(super) table: [f32; 16],
}

impl Nf4 {
    pub(super) fn new(
        (rows, width): (usize, usize),
        codes: Pages,
        absmax: Vec<f32>,
        block: usize,
        table: [f32; 16],
    ) -> Self {
        let count = rows * width;
        let fits = codes.len() == count.div_ceil(2) && block > 0 && absmax.len() == count.div_ceil(block);
        assert!(fits, "{rows} × {width} in blocks of {block}");
        Self { rows, width, codes, absmax, block, table }
    }

    /// Quantises `[rows, width]` on the host. `None` when `width` is not a multiple of 64.
    pub(crate) fn quantize(weight: &Tensor) -> Result<Option<Self>, TensorError> {
        let (rows, width) = super::host_weight::sizes(weight)?;
        if !width.is_multiple_of(BLOCK) {
            return Ok(None);
        }
        let weight = weight.f_to_kind(Kind::Float)?.f_contiguous()?;
        let values = host::slice::<f32>(&weight);
        let mut codes = allocate((rows * width / 2) as u64)?;
        let mut absmax = vec![0f32; rows * width / BLOCK];
        parallel::rows_with(codes.bytes_mut(), BLOCK / 2, &mut absmax, |first, codes, absmax| {
            let blocks = values[first * BLOCK..].chunks(BLOCK);
            for ((codes, absmax), values) in codes.chunks_mut(BLOCK / 2).zip(absmax).zip(blocks) {
                *absmax = values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
                let inverse = if *absmax > 0.0 { 1.0 / *absmax } else { 0.0 };
                for (code, pair) in codes.iter_mut().zip(values.chunks(2)) {
                    *code = nearest(pair[0] * inverse) << 4 | nearest(pair[1] * inverse);
                }
            }
        });
        Ok(Some(Self::new((rows, width), codes, absmax, BLOCK, TABLE)))
    }

    pub(super) fn decode_row(&self, row: usize, out: &mut [f32]) {
        let first = row * self.width;
        let codes = self.codes.bytes();
        if self.width.is_multiple_of(self.block) && self.block.is_multiple_of(2) {
            let codes = &codes[first / 2..][..self.width / 2];
            let scales = &self.absmax[first / self.block..];
            simd::vectorized(|| {
                let blocks = out.chunks_mut(self.block).zip(codes.chunks(self.block / 2)).zip(scales);
                for ((out, codes), &scale) in blocks {
                    let scaled = self.table.map(|value| value * scale);
                    for (pair, &code) in out.chunks_exact_mut(2).zip(codes) {
                        pair[0] = scaled[usize::from(code >> 4)];
                        pair[1] = scaled[usize::from(code & 15)];
                    }
                }
            });
            return;
        }
        for (place, value) in (first..).zip(out) {
            let code = codes[place / 2] >> (if place.is_multiple_of(2) { 4 } else { 0 });
            *value = self.table[usize::from(code & 15)] * self.absmax[place / self.block];
        }
    }

    /// Row `row`; the width must be a multiple of the block.
    pub(super) fn coded_row(&self, row: usize) -> CodedRow<'_> {
        let blocks = self.width / self.block;
        CodedRow {
            codes: &self.codes.bytes()[row * self.width / 2..][..self.width / 2],
            scales: &self.absmax[row * blocks..][..blocks],
        }
    }

    pub(super) fn resident_bytes(&self) -> u64 {
        (self.codes.len() + 4 * self.absmax.len() + 64) as u64
    }
}

/// The code whose value is nearest to `value` in −1…1.
fn nearest(value: f32) -> u8 {
    let above = TABLE.windows(2).filter(|pair| value > (pair[0] + pair[1]) / 2.0).count();
    above as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_of_the_table_is_its_own_nearest() {
        for (code, &value) in TABLE.iter().enumerate() {
            assert_eq!(usize::from(nearest(value)), code);
            assert_eq!(usize::from(nearest(value + 0.01)), code);
        }
        assert_eq!((nearest(-9.0), nearest(9.0), nearest(f32::NAN)), (0, 15, 0));
    }

    #[test]
    fn rows_that_are_not_whole_blocks_decode_like_those_that_are() {
        // The same sequence of values, once as rows of 64 and once as rows of 21, which begin inside bytes and
        // blocks.
        let values = Tensor::arange(21 * 64, (Kind::Float, tch::Device::Cpu)).sin().view([21, 64]);
        let whole = Nf4::quantize(&values).expect("quantises").expect("64 is a block");
        let mut codes = allocate(21 * 32).expect("small");
        codes.bytes_mut().copy_from_slice(whole.codes.bytes());
        let ragged = Nf4::new((64, 21), codes, whole.absmax.clone(), 64, TABLE);
        let (mut left, mut right) = (vec![0f32; 21 * 64], vec![0f32; 21 * 64]);
        left.chunks_mut(64).enumerate().for_each(|(row, out)| whole.decode_row(row, out));
        right.chunks_mut(21).enumerate().for_each(|(row, out)| ragged.decode_row(row, out));
        assert_eq!(left, right);
        assert!(Nf4::quantize(&values.view([64, 21])).expect("no error").is_none());
    }
}
