//! `y = x · Wᵀ` for few rows of x, where the time is that of reading the weights once from memory.

#![expect(
    clippy::needless_range_loop,
    reason = "iterators that are not inlined put the registers' arrays into memory"
)]

use std::cell::RefCell;

use half::{bf16, f16};
use tch::{Device, Kind, Tensor};

use super::lanes::{Kernel, LaneFloat, Lanes, Level, dispatch};
use super::pool::{self, SharedMut};
use crate::host;

/// Number of input rows from which libtorch's matrix product is faster.
const MANY: usize = 17;
/// Rows of the weight that are multiplied together.
pub(super) const STRIP: usize = 4;
/// Smallest size of a piece of work, in bytes of weight.
const PIECE_BYTES: usize = 32 << 10;

/// `[…, K]` times `weight` `[N, K]` transposed, plus `bias` `[N]` → `[…, N]` in the input's type. Sums are in f32, in
/// an order that depends only on K: the result of a row is the same in every batch that this kernel computes.
///
/// Returns `None`, without computing, where libtorch's matrix product is faster (another device, or many rows) or the
/// types are not f32, bf16 or f16.
pub fn linear_few_rows(input: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Option<Tensor> {
    few_rows_at(Level::detect(), input, weight, bias)
}

fn few_rows_at(level: Level, input: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Option<Tensor> {
    let width = usize::try_from(*input.size().last()?).ok()?;
    let count = input.numel().checked_div(width)?;
    let ours = |tensor: &Tensor| {
        tensor.device() == Device::Cpu && matches!(tensor.kind(), Kind::Float | Kind::BFloat16 | Kind::Half)
    };
    let fits = count < MANY && ours(input) && ours(weight) && weight.is_contiguous() && weight.dim() == 2;
    if !fits || usize::try_from(weight.size()[1]) != Ok(width) {
        return None;
    }
    let rows = usize::try_from(weight.size()[0]).ok()?;
    Some(match weight.kind() {
        Kind::BFloat16 => product(
            level,
            input,
            width,
            rows,
            bias,
            &FloatRows { weight: host::slice::<bf16>(weight), width },
        ),
        Kind::Half => {
            product(level, input, width, rows, bias, &FloatRows { weight: host::slice::<f16>(weight), width })
        }
        _ => {
            product(level, input, width, rows, bias, &FloatRows { weight: host::slice::<f32>(weight), width })
        }
    })
}

/// `[…, K]` times a weight of `rows` rows that `decode(row, out)` writes as `K` f32 values → `[…, rows]` in the
/// input's type, bias added. Each row is decoded once, into memory that stays in the first-level cache, and
/// multiplied with all rows of the input from there; `decode` is called from several threads. `None` on another
/// device.
pub fn linear_decoded_rows(
    input: &Tensor,
    rows: usize,
    bias: Option<&Tensor>,
    decode: impl Fn(usize, &mut [f32]) + Sync,
) -> Option<Tensor> {
    decoded_rows_at(Level::detect(), input, rows, bias, decode)
}

pub(super) fn decoded_rows_at(
    level: Level,
    input: &Tensor,
    rows: usize,
    bias: Option<&Tensor>,
    decode: impl Fn(usize, &mut [f32]) + Sync,
) -> Option<Tensor> {
    few(level, input, rows, bias, |width| DecodedRows { decode, width })
}

/// The product with the weight that `weight` returns for the input's width; `None` for a device or type that is not
/// supported.
pub(super) fn few<S: Strips>(
    level: Level,
    input: &Tensor,
    rows: usize,
    bias: Option<&Tensor>,
    weight: impl FnOnce(usize) -> S,
) -> Option<Tensor> {
    let known = matches!(input.kind(), Kind::Float | Kind::BFloat16 | Kind::Half);
    if input.device() != Device::Cpu || !known {
        return None;
    }
    let width = usize::try_from(*input.size().last()?).ok().filter(|&width| width > 0)?;
    Some(product(level, input, width, rows, bias, &weight(width)))
}

/// Results of a strip: `[row of the input][row of the weight]`.
pub(super) type Sums = [[f32; STRIP]; 4];

/// A weight that is read in strips of up to [`STRIP`] rows.
pub(super) trait Strips: Sync {
    type Strip<'a>
    where
        Self: 'a;
    /// Bytes that are read for each row.
    fn row_bytes(&self) -> usize;
    /// Rows `first..first + count`; `buffer` is memory of the calling thread.
    fn strip<'a>(&'a self, first: usize, count: usize, buffer: &'a mut Vec<f32>) -> Self::Strip<'a>;
    /// Multiplies a strip with 1, 2 or 4 rows of the input; sums of rows beyond `count` are undefined.
    fn dots<'a>(&'a self, level: Level, strip: &Self::Strip<'a>, input: &[f32], sums: &mut Sums);
}

/// Rows of floats in memory.
struct FloatRows<'a, W> {
    weight: &'a [W],
    width: usize,
}

impl<W: LaneFloat> Strips for FloatRows<'_, W> {
    type Strip<'a>
        = &'a [W]
    where
        Self: 'a;

    fn row_bytes(&self) -> usize {
        self.width * std::mem::size_of::<W>()
    }

    fn strip<'a>(&'a self, first: usize, count: usize, _: &'a mut Vec<f32>) -> &'a [W] {
        &self.weight[first * self.width..(first + count) * self.width]
    }

    fn dots<'a>(&'a self, level: Level, strip: &&'a [W], input: &[f32], sums: &mut Sums) {
        dispatch(level, Dots { weight: strip, input, width: self.width, sums });
    }
}

/// Rows that a function decodes.
struct DecodedRows<F> {
    decode: F,
    width: usize,
}

impl<F: Fn(usize, &mut [f32]) + Sync> Strips for DecodedRows<F> {
    type Strip<'a>
        = &'a [f32]
    where
        Self: 'a;

    fn row_bytes(&self) -> usize {
        self.width * std::mem::size_of::<f32>()
    }

    fn strip<'a>(&'a self, first: usize, count: usize, buffer: &'a mut Vec<f32>) -> &'a [f32] {
        buffer.resize(STRIP * self.width, 0.0);
        for (index, out) in buffer.chunks_exact_mut(self.width).enumerate().take(count) {
            (self.decode)(first + index, out);
        }
        &buffer[..count * self.width]
    }

    fn dots<'a>(&'a self, level: Level, strip: &&'a [f32], input: &[f32], sums: &mut Sums) {
        dispatch(level, Dots { weight: strip, input, width: self.width, sums });
    }
}

fn product<S: Strips>(
    level: Level,
    input: &Tensor,
    width: usize,
    rows: usize,
    bias: Option<&Tensor>,
    weight: &S,
) -> Tensor {
    let mut shape = input.size();
    if let Some(last) = shape.last_mut() {
        *last = rows as i64;
    }
    let wide = input.to_kind(Kind::Float).contiguous();
    let wide = host::slice::<f32>(&wide);
    let bias = bias.map(|bias| bias.to_kind(Kind::Float).contiguous());
    let bias = bias.as_ref().map(host::slice::<f32>);
    assert!(bias.is_none_or(|bias| bias.len() == rows), "a bias for {rows} rows");
    let output = Tensor::empty(shape.as_slice(), (Kind::Float, Device::Cpu));
    let shared = SharedMut::new(host::slice_mut::<f32>(&output));
    let count = wide.len() / width;
    let least = (PIECE_BYTES / weight.row_bytes().max(1)).max(1);
    let step = rows.div_ceil(8 * pool::threads()).max(least).next_multiple_of(STRIP);
    pool::run(rows.div_ceil(step), |piece| {
        thread_local! {
            static BUFFER: RefCell<Vec<f32>> = RefCell::default();
        }
        let mut buffer = BUFFER.take();
        for first in (piece * step..rows.min((piece + 1) * step)).step_by(STRIP) {
            let strip_rows = STRIP.min(rows - first);
            let strip = weight.strip(first, strip_rows, &mut buffer);
            let mut row = 0;
            while row < count {
                let tile = if count - row >= 4 { 4 } else { (count - row).min(2) };
                let mut sums = [[0f32; STRIP]; 4];
                weight.dots(level, &strip, &wide[row * width..(row + tile) * width], &mut sums);
                for (index, sums) in sums.iter().enumerate().take(tile) {
                    // SAFETY: no other piece writes these columns.
                    let to = unsafe { shared.slice((row + index) * rows + first, strip_rows) };
                    for (at, (to, sum)) in to.iter_mut().zip(sums).enumerate() {
                        *to = sum + bias.map_or(0.0, |bias| bias[first + at]);
                    }
                }
                row += tile;
            }
        }
        BUFFER.set(buffer);
    });
    output.to_kind(input.kind())
}

/// Up to four rows of the weight with 1, 2 or 4 rows of the input.
struct Dots<'a, W> {
    weight: &'a [W],
    input: &'a [f32],
    width: usize,
    sums: &'a mut Sums,
}

impl<W: LaneFloat> Kernel for Dots<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { weight, input, width, sums } = self;
        let (rows, count) = (weight.len() / width, input.len() / width);
        assert!(rows <= STRIP && matches!(count, 1 | 2 | 4));
        // SAFETY: complete rows, counted above; `dispatch` chose a level that the CPU has.
        unsafe {
            match (rows, count) {
                (STRIP, 1) => dots::<L, W, STRIP, 1>(weight, input, width, 0, sums),
                (STRIP, 2) => dots::<L, W, STRIP, 2>(weight, input, width, 0, sums),
                (STRIP, _) => dots::<L, W, STRIP, 4>(weight, input, width, 0, sums),
                (_, 1) => (0..rows).for_each(|row| dots::<L, W, 1, 1>(weight, input, width, row, sums)),
                (_, 2) => (0..rows).for_each(|row| dots::<L, W, 1, 2>(weight, input, width, row, sums)),
                (_, _) => (0..rows).for_each(|row| dots::<L, W, 1, 4>(weight, input, width, row, sums)),
            }
        }
    }
}

/// Rows `first .. first + ROWS` of the weight. Lane `i` sums the products at positions `i` modulo 16; the lanes are
/// summed at the end.
#[inline(always)]
unsafe fn dots<L: Lanes, W: LaneFloat, const ROWS: usize, const COUNT: usize>(
    weight: &[W],
    input: &[f32],
    width: usize,
    first: usize,
    sums: &mut Sums,
) {
    // SAFETY: guaranteed by the caller; the end of a row is read with its number of elements.
    unsafe {
        let (weight, input) = (weight.as_ptr().add(first * width), input.as_ptr());
        let mut lanes = [[L::splat(0.0); ROWS]; COUNT];
        let whole = width / 16 * 16;
        let mut at = 0;
        while at < width {
            let mut values = [L::splat(0.0); ROWS];
            for row in 0..ROWS {
                let from = weight.add(row * width + at);
                values[row] =
                    if at < whole { W::load::<L>(from) } else { W::load_some::<L>(from, width - whole) };
            }
            for index in 0..COUNT {
                let from = input.add(index * width + at);
                let input = if at < whole { L::load(from) } else { f32::load_some::<L>(from, width - whole) };
                for row in 0..ROWS {
                    lanes[index][row] = L::fma(values[row], input, lanes[index][row]);
                }
            }
            at += 16;
        }
        for index in 0..COUNT {
            for row in 0..ROWS {
                sums[index][first + row] = L::sum(lanes[index][row]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::relative_error;
    use rstest::rstest;

    #[rstest]
    fn agrees_with_libtorch_and_every_row_is_the_same_alone(
        #[values(Kind::Float, Kind::BFloat16, Kind::Half)] stored: Kind,
        #[values(Kind::Float, Kind::BFloat16, Kind::Half)] kind: Kind,
        #[values((5, 7), (64, 32), (301, 100), (1030, 576))] size: (i64, i64),
    ) {
        tch::manual_seed(35);
        let (rows, width) = size;
        let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
        let weight = random(&[rows, width]).to_kind(stored);
        let bias = random(&[rows]).to_kind(kind);
        let input = random(&[16, width]).to_kind(kind);
        let wide = [&input, &weight, &bias].map(|tensor| tensor.to_kind(Kind::Double));
        let expected = wide[0].linear(&wide[1], Some(&wide[2]));
        let bound = match kind {
            Kind::Float => 1e-6,
            Kind::Half => 5e-4,
            _ => 4e-3,
        };
        let decoded = weight.to_kind(Kind::Float);
        let decoded = host::slice::<f32>(&decoded);
        for level in Level::available() {
            let all = few_rows_at(level, &input, &weight, Some(&bias)).expect("few rows");
            assert!(all.kind() == kind && relative_error(&all, &expected) < bound, "{level:?}");
            let by_row = |row: usize, out: &mut [f32]| {
                out.copy_from_slice(&decoded[row * out.len()..(row + 1) * out.len()]);
            };
            let again = decoded_rows_at(level, &input, rows as usize, Some(&bias), by_row);
            assert_eq!(again.expect("on the CPU"), all, "{level:?}");
            for (first, count) in [(0, 1), (3, 2), (5, 3), (9, 7)] {
                let part = few_rows_at(level, &input.narrow(0, first, count), &weight, Some(&bias));
                assert_eq!(part.expect("few rows"), all.narrow(0, first, count), "{level:?}");
            }
        }
    }

    #[test]
    fn many_rows_and_other_types_are_left_to_libtorch() {
        let weight = Tensor::ones([8, 16], (Kind::Float, Device::Cpu));
        assert!(
            linear_few_rows(&Tensor::ones([17, 16], (Kind::Float, Device::Cpu)), &weight, None).is_none()
        );
        assert!(
            linear_few_rows(&Tensor::ones([1, 16], (Kind::Double, Device::Cpu)), &weight, None).is_none()
        );
        assert!(linear_few_rows(&Tensor::ones([1, 8], (Kind::Float, Device::Cpu)), &weight, None).is_none());
    }
}
