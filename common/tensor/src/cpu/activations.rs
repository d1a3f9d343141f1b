//! The input of an integer product: rows rounded to integers block by block, in the order in which the kernel reads
//! them.

use std::cell::RefCell;

use super::pool::{self, SharedMut};
use crate::host::HostFloat;
use crate::simd;

/// Largest number of input rows that are multiplied with a strip of weights at once.
pub(super) const TILE: usize = 8;

/// Number of bits that an input is rounded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Precision {
    /// 8 bits: the precision of bf16 and f16.
    Coarse,
    /// 15 bits in two bytes, `128 · high + low`: relative to the largest value of the block, nearly the precision of
    /// f32.
    Fine,
}

impl Precision {
    pub(super) fn planes(self) -> usize {
        match self {
            Self::Coarse => 1,
            Self::Fine => 2,
        }
    }

    fn largest(self) -> f32 {
        match self {
            Self::Coarse => 127.0,
            Self::Fine => 127.0 * 128.0,
        }
    }
}

/// Rows in tiles of 8, 4, 2 or 1. A tile holds for each block the high (or only) bytes of its rows, then the low
/// bytes; and separately, for each block, the scales of its rows, then their corrections.
#[derive(Default)]
pub(super) struct Activations {
    codes: Vec<i8>,
    /// Scales as f32; corrections as f32 or i32, depending on the zero point of the weight.
    scales: Vec<u32>,
}

/// What is added to a product because of the weight's zero point.
#[derive(Debug, Clone, Copy)]
pub(super) enum Correction {
    /// `scale · Σ codes` as f32, to be multiplied with the weight's minimum.
    Sum,
    /// `−centre · Σ codes` as i32.
    Centre(i32),
}

/// Sizes of the input.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) rows: usize,
    pub(super) width: usize,
    pub(super) block: usize,
    pub(super) precision: Precision,
}

impl Layout {
    /// The tile `index`: first row and number of rows.
    pub(super) fn tile(self, index: usize) -> (usize, usize) {
        let first = index * TILE;
        let left = self.rows.saturating_sub(first);
        if left >= TILE {
            return (first, TILE);
        }
        // The remaining rows are split into powers of two: 7 = 4 + 2 + 1.
        let (mut first, mut left, mut index) =
            (self.rows / TILE * TILE, self.rows % TILE, index - self.rows / TILE);
        loop {
            let count = if left == 0 { 0 } else { 1 << left.ilog2() };
            if index == 0 || count == 0 {
                return (first, count);
            }
            (first, left, index) = (first + count, left - count, index - 1);
        }
    }

    pub(super) fn tiles(self) -> usize {
        self.rows / TILE + (self.rows % TILE).count_ones() as usize
    }

    pub(super) fn blocks(self) -> usize {
        self.width / self.block
    }

    /// Bytes of codes for each row.
    pub(super) fn row_codes(self) -> usize {
        self.width * self.precision.planes()
    }

    /// Scales and corrections for each row.
    pub(super) fn row_scales(self) -> usize {
        2 * self.blocks()
    }
}

impl Activations {
    /// Calls `work` with this thread's instance, whose memory is reused.
    pub(super) fn with<R>(work: impl FnOnce(&mut Self) -> R) -> R {
        thread_local! {
            static OWN: RefCell<Activations> = RefCell::default();
        }
        OWN.with(|own| match own.try_borrow_mut() {
            Ok(mut own) => work(&mut own),
            Err(_) => work(&mut Self::default()),
        })
    }

    /// Rounds `input` `[rows, width]` to integers.
    pub(super) fn quantize<T: HostFloat>(&mut self, input: &[T], layout: Layout, correction: Correction) {
        self.codes.resize(layout.rows * layout.row_codes(), 0);
        self.scales.resize(layout.rows * layout.row_scales(), 0);
        let (codes, scales) = (SharedMut::new(&mut self.codes), SharedMut::new(&mut self.scales));
        // Pieces of about 16,000 numbers, which take longer than handing them to another thread.
        let tiles = layout.tiles();
        let step = (16_384 / (layout.width * TILE).max(1)).max(1);
        pool::run(tiles.div_ceil(step), |piece| {
            for index in piece * step..tiles.min((piece + 1) * step) {
                let (first, count) = layout.tile(index);
                // SAFETY: tiles have disjoint rows in all three buffers.
                let (codes, scales) = unsafe {
                    (
                        codes.slice(first * layout.row_codes(), count * layout.row_codes()),
                        scales.slice(first * layout.row_scales(), count * layout.row_scales()),
                    )
                };
                let input = &input[first * layout.width..(first + count) * layout.width];
                simd::vectorized(|| match (layout.block, layout.precision) {
                    (16, Precision::Coarse) => {
                        tile::<T, 16, false>(input, count, codes, scales, layout, correction)
                    }
                    (16, Precision::Fine) => {
                        tile::<T, 16, true>(input, count, codes, scales, layout, correction)
                    }
                    (_, Precision::Coarse) => {
                        tile::<T, 32, false>(input, count, codes, scales, layout, correction)
                    }
                    (_, Precision::Fine) => {
                        tile::<T, 32, true>(input, count, codes, scales, layout, correction)
                    }
                });
            }
        });
    }

    /// Codes and scales of the tile that begins with row `first`.
    pub(super) fn tile(&self, layout: Layout, first: usize, count: usize) -> (&[i8], &[u32]) {
        (
            &self.codes[first * layout.row_codes()..(first + count) * layout.row_codes()],
            &self.scales[first * layout.row_scales()..(first + count) * layout.row_scales()],
        )
    }
}

#[inline(always)]
fn tile<T: HostFloat, const BLOCK: usize, const FINE: bool>(
    input: &[T],
    count: usize,
    codes: &mut [i8],
    scales: &mut [u32],
    layout: Layout,
    correction: Correction,
) {
    for (row, input) in input.chunks_exact(layout.width).enumerate() {
        for (index, values) in input.as_chunks::<BLOCK>().0.iter().enumerate() {
            let planes = if FINE { 2 } else { 1 };
            let at = (index * planes * count + row) * BLOCK;
            let mut low = [0i8; BLOCK];
            let (scale, sum) = {
                let high = (&mut codes[at..at + BLOCK]).try_into();
                let Ok(high): Result<&mut [i8; BLOCK], _> = high else { return };
                round_block::<T, BLOCK, FINE>(values, high, &mut low)
            };
            if FINE {
                let at = at + count * BLOCK;
                codes[at..at + BLOCK].copy_from_slice(&low);
            }
            let at = index * 2 * count + row;
            scales[at] = scale.to_bits();
            scales[at + count] = match correction {
                Correction::Sum => (scale * sum as f32).to_bits(),
                Correction::Centre(centre) => (-centre * sum).cast_unsigned(),
            };
        }
    }
}

/// Writes the integers nearest to `values / scale`; returns the scale and the sum of the integers. The scale is NaN
/// if a value is not finite, so that the result is not finite either.
#[inline(always)]
fn round_block<T: HostFloat, const BLOCK: usize, const FINE: bool>(
    values: &[T; BLOCK],
    high: &mut [i8; BLOCK],
    low: &mut [i8; BLOCK],
) -> (f32, i32) {
    // Adding 1.5 · 2^23 leaves the integer in the last bits, rounded by the addition.
    const WHOLE: f32 = 12_582_912.0;
    let precision = if FINE { Precision::Fine } else { Precision::Coarse };
    let mut wide = [0f32; BLOCK];
    let mut largest = 0u32;
    for (wide, value) in wide.iter_mut().zip(values) {
        *wide = value.widen();
        // Absolute values are ordered like their bits as integers, with NaN above all.
        largest = largest.max(wide.to_bits() & 0x7fff_ffff);
    }
    let largest = f32::from_bits(largest);
    let scale = if largest.is_finite() { largest / precision.largest() } else { f32::NAN };
    let inverse = if scale > 0.0 { precision.largest() / largest } else { 0.0 };
    // The inverse of the smallest subnormal numbers is infinite; such a block is rounded to zero.
    let inverse = if inverse.is_finite() { inverse } else { 0.0 };
    let mut sum = 0;
    for ((high, low), wide) in high.iter_mut().zip(low).zip(&wide) {
        let code =
            (wide * inverse + WHOLE).to_bits().cast_signed().wrapping_sub(WHOLE.to_bits().cast_signed());
        sum += code;
        if FINE {
            let upper = (code + 64) >> 7;
            *high = upper as i8;
            *low = (code - (upper << 7)) as i8;
        } else {
            *high = code as i8;
        }
    }
    (scale, sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_every_row_once() {
        for rows in 0..40 {
            let layout = Layout { rows, width: 32, block: 32, precision: Precision::Fine };
            let mut next = 0;
            for index in 0..layout.tiles() {
                let (first, count) = layout.tile(index);
                assert!(first == next && [1, 2, 4, 8].contains(&count), "{rows}: {index}");
                next += count;
            }
            assert_eq!(next, rows);
        }
    }

    #[test]
    fn blocks_are_rounded_to_the_stated_precision() {
        let values: [f32; 32] = std::array::from_fn(|i| (i as f32 * 0.77).sin() * 3.0);
        let largest = values.iter().fold(0f32, |a, b| a.max(b.abs()));
        let (mut high, mut low) = ([0; 32], [0; 32]);
        let (scale, sum) = round_block::<f32, 32, true>(&values, &mut high, &mut low);
        let codes: Vec<i32> = (0..32).map(|i| i32::from(high[i]) * 128 + i32::from(low[i])).collect();
        assert_eq!(codes.iter().sum::<i32>(), sum);
        for (code, value) in codes.iter().zip(values) {
            assert!((*code as f32 * scale - value).abs() <= largest / 16256.0 * 0.51, "{code} {value}");
        }
        let (scale, sum) = round_block::<f32, 32, false>(&values, &mut high, &mut low);
        assert_eq!(high.iter().map(|&code| i32::from(code)).sum::<i32>(), sum);
        for (code, value) in high.iter().zip(values) {
            assert!((f32::from(*code) * scale - value).abs() <= largest / 127.0 * 0.51, "{code} {value}");
        }
    }

    #[test]
    fn zero_and_non_finite_blocks() {
        let (mut high, mut low) = ([7; 16], [7; 16]);
        assert_eq!(round_block::<f32, 16, true>(&[0.0; 16], &mut high, &mut low), (0.0, 0));
        assert_eq!((high, low), ([0; 16], [0; 16]));
        let tiny = round_block::<f32, 16, true>(&[1e-45; 16], &mut high, &mut low);
        assert_eq!(tiny.1, 0);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = [1.0; 16];
            values[9] = bad;
            assert!(round_block::<f32, 16, true>(&values, &mut high, &mut low).0.is_nan());
        }
    }
}
