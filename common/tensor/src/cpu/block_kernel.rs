//! The inner loop of [`super::BlockMatrix`]: 16 rows of the weight (a strip) times up to 8 rows of the input (a
//! tile).

#![expect(
    clippy::needless_range_loop,
    reason = "iterators that are not inlined put the registers' arrays into memory"
)]

use super::activations::TILE;
use super::block_matrix::{BlockFormat, CodeBits, STRIP, ScaleKind, ZeroPoint};
use super::lanes::{Kernel, LaneFloat, Lanes};

/// A strip of the weight: 16 rows.
#[derive(Clone, Copy)]
pub(super) struct Strip<'a> {
    pub(super) format: BlockFormat,
    pub(super) blocks: usize,
    /// `[blocks]`, each of the format's `code_bytes`.
    pub(super) codes: &'a [u8],
    /// `[blocks]`, each of the format's `scale_bytes`.
    pub(super) scales: &'a [u8],
}

/// A tile of the input, in the layout of [`super::activations::Activations`].
#[derive(Clone, Copy)]
pub(super) struct Tile<'a> {
    pub(super) rows: usize,
    pub(super) codes: &'a [i8],
    pub(super) scales: &'a [u32],
    pub(super) fine: bool,
}

/// Computes `sums[row of the tile][row of the strip]`, adding the blocks in the order of K.
pub(super) struct Multiply<'a> {
    pub(super) strip: Strip<'a>,
    pub(super) tile: Tile<'a>,
    pub(super) sums: &'a mut [[f32; STRIP]; TILE],
}

impl Kernel for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { strip, tile, sums } = self;
        let (format, planes) = (strip.format, if tile.fine { 2 } else { 1 });
        assert!(
            matches!(tile.rows, 1 | 2 | 4 | 8)
                && strip.codes.len() >= strip.blocks * format.code_bytes()
                && strip.scales.len() >= strip.blocks * format.scale_bytes()
                && tile.codes.len() >= strip.blocks * format.block * tile.rows * planes
                && tile.scales.len() >= strip.blocks * tile.rows * 2
        );
        // SAFETY: the lengths were checked above, and `dispatch` chose a level that the CPU has.
        unsafe {
            match (format.bits, format.block, tile.fine) {
                (CodeBits::Four, _, false) => by_rows::<L, 8, true, false>(strip, tile, sums),
                (CodeBits::Four, _, true) => by_rows::<L, 8, true, true>(strip, tile, sums),
                (CodeBits::Eight, 32, false) => by_rows::<L, 8, false, false>(strip, tile, sums),
                (CodeBits::Eight, 32, true) => by_rows::<L, 8, false, true>(strip, tile, sums),
                (CodeBits::Eight, _, false) => by_rows::<L, 4, false, false>(strip, tile, sums),
                (CodeBits::Eight, _, true) => by_rows::<L, 4, false, true>(strip, tile, sums),
            }
        }
    }
}

#[inline(always)]
unsafe fn by_rows<L: Lanes, const GROUPS: usize, const FOUR: bool, const FINE: bool>(
    strip: Strip<'_>,
    tile: Tile<'_>,
    sums: &mut [[f32; STRIP]],
) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        match tile.rows {
            1 => product::<L, GROUPS, FOUR, FINE, 1>(strip, tile, sums),
            2 => product::<L, GROUPS, FOUR, FINE, 2>(strip, tile, sums),
            4 => product::<L, GROUPS, FOUR, FINE, 4>(strip, tile, sums),
            _ => product::<L, GROUPS, FOUR, FINE, 8>(strip, tile, sums),
        }
    }
}

/// A block has `GROUPS` groups of four values.
#[inline(always)]
unsafe fn product<L: Lanes, const GROUPS: usize, const FOUR: bool, const FINE: bool, const ROWS: usize>(
    strip: Strip<'_>,
    tile: Tile<'_>,
    sums: &mut [[f32; STRIP]],
) {
    let block = GROUPS * 4;
    let planes = if FINE { 2 } else { 1 };
    let code_bytes = strip.format.code_bytes();
    let scale_bytes = strip.format.scale_bytes();
    let half_scales = strip.format.scales == ScaleKind::F16;
    let minimum = strip.format.zero_point == ZeroPoint::Minimum;
    let mut codes = strip.codes.as_ptr();
    let mut scales = strip.scales.as_ptr();
    let mut x = tile.codes.as_ptr();
    let mut x_scales = tile.scales.as_ptr();
    // SAFETY: guaranteed by the caller; each pointer advances by the size of one block.
    unsafe {
        let mut result = [L::splat(0.0); ROWS];
        for _ in 0..strip.blocks {
            let mut weights = [L::load_codes(codes); GROUPS];
            if FOUR {
                for pair in 0..GROUPS / 2 {
                    let both = L::load_codes(codes.add(64 * pair));
                    weights[pair] = L::low(both);
                    weights[pair + GROUPS / 2] = L::high(both);
                }
            } else {
                for group in 0..GROUPS {
                    weights[group] = L::load_codes(codes.add(64 * group));
                }
            }
            let scale = load_scales::<L>(half_scales, scales, 0);
            let minimums = if minimum { load_scales::<L>(half_scales, scales, STRIP) } else { L::splat(0.0) };
            for row in 0..ROWS {
                let correction = *x_scales.add(ROWS + row);
                let start = if minimum { 0 } else { correction.cast_signed() };
                let x = x.add(row * block);
                let mut whole;
                if FINE {
                    whole = L::splat_i(0);
                    let mut low = L::splat_i(start);
                    for group in 0..GROUPS {
                        whole = L::dot4(whole, weights[group], x.add(4 * group));
                        low = L::dot4(low, weights[group], x.add(ROWS * block + 4 * group));
                    }
                    whole = L::times_128_plus(whole, low);
                } else {
                    whole = L::splat_i(start);
                    for group in 0..GROUPS {
                        whole = L::dot4(whole, weights[group], x.add(4 * group));
                    }
                }
                let scaled = L::mul(L::to_float(whole), L::splat(f32::from_bits(*x_scales.add(row))));
                result[row] = L::fma(scaled, scale, result[row]);
                if minimum {
                    let sum = L::splat(f32::from_bits(correction));
                    result[row] = L::fma(minimums, sum, result[row]);
                }
            }
            codes = codes.add(code_bytes);
            scales = scales.add(scale_bytes);
            x = x.add(planes * ROWS * block);
            x_scales = x_scales.add(2 * ROWS);
        }
        for row in 0..ROWS {
            L::store(sums[row].as_mut_ptr(), result[row]);
        }
    }
}

#[inline(always)]
unsafe fn load_scales<L: Lanes>(half: bool, scales: *const u8, first: usize) -> L::F {
    // SAFETY: guaranteed by the caller.
    unsafe {
        if half {
            half::f16::load::<L>(scales.cast::<half::f16>().add(first))
        } else {
            L::load(scales.cast::<f32>().add(first))
        }
    }
}
