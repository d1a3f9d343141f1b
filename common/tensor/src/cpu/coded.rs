//! `y = x · Wᵀ` for few rows of x and a weight of small codes with scales: each code is converted to a float in a
//! register, so that only the codes are read from memory.

#![expect(
    clippy::needless_range_loop,
    reason = "iterators that are not inlined put the registers' arrays into memory"
)]

use tch::Tensor;

use super::dense::{STRIP, Strips, Sums, few};
use super::lanes::{E4M3_FACTOR, Kernel, LaneFloat, Lanes, Level, dispatch};

/// How 16 neighbouring values of a row are decoded.
pub(crate) trait Code: Copy + Sync {
    /// Bytes of 16 codes.
    const BYTES: usize;
    /// The factor, a power of two, by which the results of [`Code::load`] are too small.
    const FACTOR: f32;
    /// # Safety
    /// `from` has [`Code::BYTES`] bytes; otherwise as [`Lanes`].
    unsafe fn load<L: Lanes>(self, from: *const u8) -> L::F;
}

/// e4m3 without NaN, one byte for each value.
#[derive(Clone, Copy)]
pub(crate) struct E4m3;

/// Four-bit indices into a table; the low nibble of a byte comes first.
#[derive(Clone, Copy)]
pub(crate) struct LowFirst<'a>(pub(crate) &'a [f32; 16]);

/// Four-bit indices into a table; the high nibble of a byte comes first.
#[derive(Clone, Copy)]
pub(crate) struct HighFirst<'a>(pub(crate) &'a [f32; 16]);

impl Code for E4m3 {
    const BYTES: usize = 16;
    const FACTOR: f32 = E4M3_FACTOR;

    #[inline(always)]
    unsafe fn load<L: Lanes>(self, from: *const u8) -> L::F {
        // SAFETY: guaranteed by the caller.
        unsafe { L::load_e4m3(from) }
    }
}

impl Code for LowFirst<'_> {
    const BYTES: usize = 8;
    const FACTOR: f32 = 1.0;

    #[inline(always)]
    unsafe fn load<L: Lanes>(self, from: *const u8) -> L::F {
        // SAFETY: guaranteed by the caller.
        unsafe { L::look_up::<false>(self.0, from) }
    }
}

impl Code for HighFirst<'_> {
    const BYTES: usize = 8;
    const FACTOR: f32 = 1.0;

    #[inline(always)]
    unsafe fn load<L: Lanes>(self, from: *const u8) -> L::F {
        // SAFETY: guaranteed by the caller.
        unsafe { L::look_up::<true>(self.0, from) }
    }
}

/// A row of a weight: `value = code · scale`, with the scale of the block.
#[derive(Clone, Copy, Default)]
pub(crate) struct CodedRow<'a> {
    pub(crate) codes: &'a [u8],
    /// One scale for each block, the last of which may be shorter.
    pub(crate) scales: &'a [f32],
}

/// A weight that provides its rows one by one. All have the same width, a multiple of 16.
pub(crate) trait CodedRows: Sync {
    type Code: Code;
    /// The encoding of the rows.
    fn code(&self) -> Self::Code;
    /// Values that share a scale: a multiple of 16, or at least the width.
    fn block(&self) -> usize;
    /// Row `row`; its scales may be written to `buffer` `[width / 16]`.
    fn row<'a>(&'a self, row: usize, buffer: &'a mut [f32]) -> CodedRow<'a>;
}

/// `[…, K]` on the CPU times a weight of `rows` rows → `[…, rows]` in the input's type, bias added. Bit-identical to
/// [`super::linear_decoded_rows`]. `None` on another device or for another type.
pub(crate) fn coded_rows(
    input: &Tensor,
    rows: usize,
    bias: Option<&Tensor>,
    weight: &impl CodedRows,
) -> Option<Tensor> {
    coded_rows_at(Level::detect(), input, rows, bias, weight)
}

pub(super) fn coded_rows_at(
    level: Level,
    input: &Tensor,
    rows: usize,
    bias: Option<&Tensor>,
    weight: &impl CodedRows,
) -> Option<Tensor> {
    few(level, input, rows, bias, |width| {
        assert!(width.is_multiple_of(16) && (weight.block().is_multiple_of(16) || weight.block() >= width));
        CodedStrips { weight, width }
    })
}

/// Writes rows `first…` of a weight to `output`, whose rows have `width` values: `code · scale` in f32, rounded to
/// the type.
pub(crate) fn widen_rows<T: LaneFloat>(
    weight: &impl CodedRows,
    first: usize,
    width: usize,
    output: &mut [T],
) {
    let level = Level::detect();
    let mut buffer = vec![0f32; width / 16];
    for (row, output) in (first..).zip(output.chunks_exact_mut(width)) {
        let row = weight.row(row, &mut buffer);
        dispatch(level, Widen { code: weight.code(), row, block: weight.block(), output });
    }
}

/// Decodes one row, value by value.
struct Widen<'a, C, T> {
    code: C,
    row: CodedRow<'a>,
    block: usize,
    output: &'a mut [T],
}

impl<C: Code, T: LaneFloat> Kernel for Widen<'_, C, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { code, row, block, output } = self;
        assert!(
            output.len().is_multiple_of(16)
                && (block.is_multiple_of(16) || block >= output.len())
                && row.codes.len() >= output.len() / 16 * C::BYTES
                && row.scales.len() >= output.len().div_ceil(block)
        );
        let mut codes = row.codes.chunks_exact(C::BYTES);
        for (output, &scale) in output.chunks_mut(block).zip(row.scales) {
            // SAFETY: 16 values at a time, of which a block has a whole number; `dispatch` chose a level that the CPU
            // has.
            unsafe {
                let scale = L::splat(C::FACTOR * scale);
                for (output, codes) in output.chunks_exact_mut(16).zip(&mut codes) {
                    T::store::<L>(output.as_mut_ptr(), L::mul(code.load::<L>(codes.as_ptr()), scale));
                }
            }
        }
    }
}

struct CodedStrips<'a, W> {
    weight: &'a W,
    width: usize,
}

impl<W: CodedRows> Strips for CodedStrips<'_, W> {
    type Strip<'b>
        = [CodedRow<'b>; STRIP]
    where
        Self: 'b;

    fn row_bytes(&self) -> usize {
        self.width / 16 * W::Code::BYTES
    }

    fn strip<'b>(&'b self, first: usize, count: usize, buffer: &'b mut Vec<f32>) -> Self::Strip<'b> {
        let blocks = self.width / 16;
        buffer.resize(STRIP * blocks, 0.0);
        let mut rows = [CodedRow::default(); STRIP];
        for (index, (row, buffer)) in rows.iter_mut().zip(buffer.chunks_exact_mut(blocks)).enumerate() {
            // Where the weight ends inside a strip, its last row is computed again.
            *row = self.weight.row(first + index.min(count - 1), buffer);
        }
        rows
    }

    fn dots<'b>(&'b self, level: Level, strip: &Self::Strip<'b>, input: &[f32], sums: &mut Sums) {
        let (code, block, width) = (self.weight.code(), self.weight.block(), self.width);
        dispatch(level, CodedDots { code, strip, block, input, width, sums });
    }
}

/// Four rows of the weight with 1, 2 or 4 rows of the input.
struct CodedDots<'a, C> {
    code: C,
    strip: &'a [CodedRow<'a>; STRIP],
    block: usize,
    input: &'a [f32],
    width: usize,
    sums: &'a mut Sums,
}

impl<C: Code> Kernel for CodedDots<'_, C> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let count = self.input.len() / self.width;
        let blocks = self.width.div_ceil(self.block);
        assert!(
            self.width.is_multiple_of(16)
                && matches!(count, 1 | 2 | 4)
                && self.strip.iter().all(|row| {
                    row.codes.len() >= self.width / 16 * C::BYTES && row.scales.len() >= blocks
                })
        );
        // SAFETY: the lengths were checked above; `dispatch` chose a level that the CPU has.
        unsafe {
            match count {
                1 => self.of::<L, 1>(),
                2 => self.of::<L, 2>(),
                _ => self.of::<L, 4>(),
            }
        }
    }
}

impl<C: Code> CodedDots<'_, C> {
    /// Lane `i` sums the products at positions `i` modulo 16; the lanes are summed at the end.
    #[inline(always)]
    unsafe fn of<L: Lanes, const COUNT: usize>(self) {
        let Self { code, strip, block, input, width, sums } = self;
        // SAFETY: guaranteed by the caller.
        unsafe {
            let input = input.as_ptr();
            let mut codes = [std::ptr::null(); STRIP];
            for row in 0..STRIP {
                codes[row] = strip[row].codes.as_ptr();
            }
            let mut lanes = [[L::splat(0.0); STRIP]; COUNT];
            let (mut at, mut number) = (0, 0);
            while at < width {
                let mut scales = [L::splat(0.0); STRIP];
                for row in 0..STRIP {
                    scales[row] = L::splat(C::FACTOR * *strip[row].scales.as_ptr().add(number));
                }
                let end = width.min(at + block);
                while at < end {
                    let mut values = [L::splat(0.0); STRIP];
                    for row in 0..STRIP {
                        values[row] = L::mul(code.load::<L>(codes[row]), scales[row]);
                        codes[row] = codes[row].add(C::BYTES);
                    }
                    for index in 0..COUNT {
                        let input = L::load(input.add(index * width + at));
                        for row in 0..STRIP {
                            lanes[index][row] = L::fma(values[row], input, lanes[index][row]);
                        }
                    }
                    at += 16;
                }
                number += 1;
            }
            for index in 0..COUNT {
                for row in 0..STRIP {
                    sums[index][row] = L::sum(lanes[index][row]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::dense::decoded_rows_at;
    use super::*;
    use crate::quantized::e4m3;
    use half::bf16;
    use rstest::rstest;
    use tch::{Device, Kind};

    /// Random codes and scales.
    struct Random<C> {
        code: C,
        width: usize,
        block: usize,
        codes: Vec<u8>,
        scales: Vec<f32>,
    }

    impl<C: Code> CodedRows for Random<C> {
        type Code = C;
        fn code(&self) -> C {
            self.code
        }
        fn block(&self) -> usize {
            self.block
        }
        fn row<'a>(&'a self, row: usize, buffer: &'a mut [f32]) -> CodedRow<'a> {
            let (bytes, blocks) = (self.width / 16 * C::BYTES, self.width.div_ceil(self.block));
            let buffer = &mut buffer[..blocks];
            buffer.copy_from_slice(&self.scales[row * blocks..][..blocks]);
            CodedRow { codes: &self.codes[row * bytes..][..bytes], scales: buffer }
        }
    }

    const ROWS: usize = 21;

    fn random<C: Code>(code: C, width: usize, block: usize) -> Random<C> {
        let numbers = |count: usize| (0..count as u32).map(|index| index.wrapping_mul(2_654_435_761) >> 13);
        let codes = numbers(ROWS * width / 16 * C::BYTES).map(|number| number as u8);
        // Without e4m3's NaN codes.
        let codes = codes.map(|code| if code & 0x7f == 0x7f { 0x3c } else { code }).collect();
        let scales = numbers(ROWS * width.div_ceil(block)).map(|number| number as f32 * 1e-7).collect();
        Random { code, width, block, codes, scales }
    }

    fn agrees<C: Code>(weight: &Random<C>, value: impl Fn(usize) -> f32 + Sync) {
        tch::manual_seed(8);
        let blocks = weight.width.div_ceil(weight.block);
        for level in Level::available() {
            for (count, kind) in [(1, Kind::Float), (2, Kind::BFloat16), (7, Kind::Float)] {
                let input =
                    Tensor::randn([count, weight.width as i64], (Kind::Float, Device::Cpu)).to_kind(kind);
                let bias = Tensor::randn([ROWS as i64], (Kind::Float, Device::Cpu));
                let by_row = |row: usize, out: &mut [f32]| {
                    for (at, out) in out.iter_mut().enumerate() {
                        *out =
                            value(row * weight.width + at) * weight.scales[row * blocks + at / weight.block];
                    }
                };
                let expected = decoded_rows_at(level, &input, ROWS, Some(&bias), by_row);
                let result = coded_rows_at(level, &input, ROWS, Some(&bias), weight);
                assert_eq!(
                    result.expect("on the CPU"),
                    expected.expect("on the CPU"),
                    "{level:?}, {count} rows"
                );
            }
        }
        let expected: Vec<f32> = (0..ROWS * weight.width)
            .map(|at| {
                let (row, column) = (at / weight.width, at % weight.width);
                value(at) * weight.scales[row * blocks + column / weight.block]
            })
            .collect();
        let mut wide = vec![0f32; ROWS * weight.width];
        widen_rows(weight, 0, weight.width, &mut wide);
        assert_eq!(wide, expected);
        let mut narrow = vec![bf16::ZERO; 2 * weight.width];
        widen_rows(weight, 3, weight.width, &mut narrow);
        let rounded =
            expected[3 * weight.width..][..2 * weight.width].iter().map(|value| bf16::from_f32(*value));
        assert_eq!(narrow, rounded.collect::<Vec<_>>());
    }

    #[rstest]
    fn products_are_those_of_the_decoded_rows(
        #[values((16, 16), (48, 32), (256, 128), (272, 128), (64, 100))] size: (usize, usize),
    ) {
        let (width, block) = size;
        let bytes = random(E4m3, width, block);
        agrees(&bytes, |place| e4m3::decode(bytes.codes[place]));
        let table: [f32; 16] = std::array::from_fn(|index| (index as f32 * 1.3).sin());
        let low = random(LowFirst(&table), width, block);
        agrees(&low, |place| table[usize::from(low.codes[place / 2] >> (4 * (place % 2)) & 15)]);
        let high = random(HighFirst(&table), width, block);
        agrees(&high, |place| table[usize::from(high.codes[place / 2] >> (4 - 4 * (place % 2)) & 15)]);
    }
}
