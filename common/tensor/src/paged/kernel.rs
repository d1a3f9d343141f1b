//! The inner loops of attention: scores, softmax and weighted values of one tile of keys.

#![expect(
    clippy::needless_range_loop,
    reason = "iterators that are not inlined put the registers' arrays into memory"
)]

use super::CACHE_BLOCK_TOKENS;
use super::attend::{KEY_TILE, ROW_TILE, State};
use crate::cpu::lanes::{Kernel, LaneFloat, Lanes};

/// Blocks in a tile of keys.
pub(super) const TILE_BLOCKS: usize = 8;

/// Scores, then weights, of a tile: one row for each query row.
pub(super) struct Scores([[f32; KEY_TILE]; ROW_TILE]);

impl Default for Scores {
    fn default() -> Self {
        Self([[0.0; KEY_TILE]; ROW_TILE])
    }
}

/// One tile of keys for some query rows.
pub(super) struct TilePass<'a, T> {
    /// `[key_dim][rows]`, or `[rows][stride]` with `by_rows`; scaled.
    pub(super) query: &'a [f32],
    /// 1, 2, 3, 4 or 8.
    pub(super) rows: usize,
    /// Number of keys of the tile that each row attends to, at most 16 times the number of blocks.
    pub(super) seen: [usize; ROW_TILE],
    /// How many of these each row does not attend to, at their start.
    pub(super) skipped: [usize; ROW_TILE],
    /// Blocks of keys, `[key_dim][16]`, or `[16][stride]` with `by_rows`.
    pub(super) keys: &'a [*const T],
    /// Blocks of values, `[16][stride]`.
    pub(super) values: &'a [*const T],
    pub(super) key_dim: usize,
    pub(super) by_rows: bool,
    /// Elements from one row of a block to the next.
    pub(super) stride: usize,
    /// Elements from one row of the state's values to the next: a multiple of 16, at most `stride`.
    pub(super) value_stride: usize,
    pub(super) scores: &'a mut Scores,
    /// Overwritten.
    pub(super) state: State<'a>,
}

impl<T: LaneFloat> Kernel for TilePass<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        assert!(
            self.query.len() >= self.rows * self.key_dim
                && (!self.by_rows || self.query.len() >= self.rows * self.stride)
                && self.state.values.len() >= self.rows * self.value_stride
                && self.keys.len() == self.values.len()
                && self.keys.len() <= TILE_BLOCKS
                && self.seen.iter().all(|&seen| seen <= self.keys.len() * CACHE_BLOCK_TOKENS)
        );
        // SAFETY: the lengths were checked above; the pointers are to whole blocks of the cache (`Store::keys`,
        // `KvCache::check`), whose rows are zero until written; `dispatch` chose a level that the CPU has.
        unsafe {
            match self.rows {
                1 => self.of_rows::<L, 1>(),
                2 => self.of_rows::<L, 2>(),
                3 => self.of_rows::<L, 3>(),
                4 => self.of_rows::<L, 4>(),
                _ => self.of_rows::<L, 8>(),
            }
        }
    }
}

impl<T: LaneFloat> TilePass<'_, T> {
    #[inline(always)]
    unsafe fn of_rows<L: Lanes, const ROWS: usize>(self) {
        let Self {
            query,
            seen,
            skipped,
            keys,
            values,
            key_dim,
            by_rows,
            stride,
            value_stride,
            scores,
            mut state,
            ..
        } = self;
        // SAFETY: guaranteed by the caller.
        unsafe {
            for (block, &keys) in keys.iter().enumerate() {
                if !by_rows {
                    column_scores::<L, T, ROWS>(query, keys, key_dim, block, scores);
                } else if ROWS == 8 {
                    row_scores::<L, T, 4>(query, keys, stride, block, 0, scores);
                    row_scores::<L, T, 4>(query, keys, stride, block, 4, scores);
                } else {
                    row_scores::<L, T, ROWS>(query, keys, stride, block, 0, scores);
                }
            }
            let mut most = 0;
            for row in 0..ROWS {
                most = most.max(seen[row]);
                softmax::<L>(&mut scores.0[row], [skipped[row], seen[row]], keys.len(), row, &mut state);
            }
            let mut place = WeightedSum { values, most, stride, value_stride, first: 0 };
            if ROWS == 8 {
                place.rows::<L, 4>(scores, &mut state);
                place.first = 4;
                place.rows::<L, 4>(scores, &mut state);
            } else {
                place.rows::<L, ROWS>(scores, &mut state);
            }
        }
    }
}

/// Scores with a block of keys `[key_dim][16]`: one lane for each token.
#[inline(always)]
unsafe fn column_scores<L: Lanes, T: LaneFloat, const ROWS: usize>(
    query: &[f32],
    keys: *const T,
    key_dim: usize,
    block: usize,
    scores: &mut Scores,
) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let (mut query, mut keys) = (query.as_ptr(), keys);
        let mut sums = [L::splat(0.0); ROWS];
        for _ in 0..key_dim {
            let key = T::load::<L>(keys);
            for row in 0..ROWS {
                sums[row] = L::fma(key, L::splat(*query.add(row)), sums[row]);
            }
            keys = keys.add(CACHE_BLOCK_TOKENS);
            query = query.add(ROWS);
        }
        for row in 0..ROWS {
            L::store(scores.0[row].as_mut_ptr().add(block * CACHE_BLOCK_TOKENS), sums[row]);
        }
    }
}

/// Scores of rows `first..` with a block of keys `[16][stride]`: four tokens at a time, lanes along the key.
#[inline(always)]
unsafe fn row_scores<L: Lanes, T: LaneFloat, const ROWS: usize>(
    query: &[f32],
    keys: *const T,
    stride: usize,
    block: usize,
    first: usize,
    scores: &mut Scores,
) {
    const TOKENS: usize = 4;
    // SAFETY: guaranteed by the caller.
    unsafe {
        let query = query.as_ptr().add(first * stride);
        for token in (0..CACHE_BLOCK_TOKENS).step_by(TOKENS) {
            let keys = keys.add(token * stride);
            let mut sums = [[L::splat(0.0); TOKENS]; ROWS];
            for at in (0..stride).step_by(16) {
                let mut wide = [L::splat(0.0); TOKENS];
                for index in 0..TOKENS {
                    wide[index] = T::load::<L>(keys.add(index * stride + at));
                }
                for row in 0..ROWS {
                    let sums = &mut sums[row];
                    let query = L::load(query.add(row * stride + at));
                    for index in 0..TOKENS {
                        sums[index] = L::fma(query, wide[index], sums[index]);
                    }
                }
            }
            for row in 0..ROWS {
                for index in 0..TOKENS {
                    let place = block * CACHE_BLOCK_TOKENS + token + index;
                    scores.0[first + row][place] = L::sum(sums[row][index]);
                }
            }
        }
    }
}

/// Replaces the scores of a row by `e^(score − largest)`, and by 0 before key `first` and from key `seen` on.
#[inline(always)]
unsafe fn softmax<L: Lanes>(
    scores: &mut [f32; KEY_TILE],
    [first, seen]: [usize; 2],
    blocks: usize,
    row: usize,
    state: &mut State<'_>,
) {
    let end = blocks * CACHE_BLOCK_TOKENS;
    if first >= seen {
        scores[..end].fill(0.0);
        (state.stats.largest[row], state.stats.sum[row]) = (f32::NEG_INFINITY, 0.0);
        return;
    }
    scores[..first].fill(f32::NEG_INFINITY);
    scores[seen..end].fill(f32::NEG_INFINITY);
    // SAFETY: guaranteed by the caller; `end` is at most the length of the row.
    unsafe {
        let mut largest = L::splat(f32::NEG_INFINITY);
        for at in (0..end).step_by(16) {
            largest = L::max(largest, L::load(scores.as_ptr().add(at)));
        }
        let largest = L::largest(largest);
        let mut sum = L::splat(0.0);
        for at in (0..end).step_by(16) {
            let at = scores.as_mut_ptr().add(at);
            let weight = L::exp(L::sub(L::load(at), L::splat(largest)));
            L::store(at, weight);
            sum = L::add(sum, weight);
        }
        (state.stats.largest[row], state.stats.sum[row]) = (largest, L::sum(sum));
    }
}

/// Computes the weighted sums of values.
struct WeightedSum<'a, T> {
    values: &'a [*const T],
    /// Number of keys that some row attends to.
    most: usize,
    stride: usize,
    value_stride: usize,
    /// First row.
    first: usize,
}

impl<T: LaneFloat> WeightedSum<'_, T> {
    #[inline(always)]
    unsafe fn rows<L: Lanes, const ROWS: usize>(&self, scores: &Scores, state: &mut State<'_>) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let mut at = 0;
            while at + 64 <= self.value_stride {
                self.columns::<L, ROWS, 4>(at, scores, state);
                at += 64;
            }
            while at < self.value_stride {
                self.columns::<L, ROWS, 1>(at, scores, state);
                at += 16;
            }
        }
    }

    /// `WIDE` registers of each row from column `at` on; tokens are added in order.
    #[inline(always)]
    unsafe fn columns<L: Lanes, const ROWS: usize, const WIDE: usize>(
        &self,
        at: usize,
        scores: &Scores,
        state: &mut State<'_>,
    ) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let mut sums = [[L::splat(0.0); WIDE]; ROWS];
            for (block, &values) in self.values.iter().enumerate() {
                let mut values = values.add(at);
                let first = block * CACHE_BLOCK_TOKENS;
                for token in first..self.most.min(first + CACHE_BLOCK_TOKENS) {
                    let mut wide = [L::splat(0.0); WIDE];
                    for index in 0..WIDE {
                        wide[index] = T::load::<L>(values.add(16 * index));
                    }
                    for row in 0..ROWS {
                        let sums = &mut sums[row];
                        let weight = L::splat(*scores.0[self.first + row].as_ptr().add(token));
                        for index in 0..WIDE {
                            sums[index] = L::fma(wide[index], weight, sums[index]);
                        }
                    }
                    values = values.add(self.stride);
                }
            }
            for row in 0..ROWS {
                let to = state.values.as_mut_ptr().add((self.first + row) * self.value_stride + at);
                for index in 0..WIDE {
                    L::store(to.add(16 * index), sums[row][index]);
                }
            }
        }
    }
}

/// Merges the result of one tile into the total of the tiles before it.
pub(super) struct Merge<'a> {
    pub(super) rows: usize,
    /// Elements from one row of values to the next, a multiple of 16.
    pub(super) stride: usize,
    pub(super) part: &'a State<'a>,
    pub(super) total: State<'a>,
}

impl Kernel for Merge<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { rows, stride, part, total } = self;
        assert!(
            rows * stride <= part.values.len()
                && rows * stride <= total.values.len()
                && stride.is_multiple_of(16)
                && rows <= ROW_TILE
        );
        for row in 0..rows {
            if part.stats.largest[row] == f32::NEG_INFINITY {
                continue;
            }
            if total.stats.largest[row] == f32::NEG_INFINITY {
                total.stats.largest[row] = part.stats.largest[row];
                total.stats.sum[row] = part.stats.sum[row];
                let values = row * stride..(row + 1) * stride;
                total.values[values.clone()].copy_from_slice(&part.values[values]);
                continue;
            }
            // SAFETY: the lengths were checked above; `dispatch` chose a level that the CPU has.
            unsafe {
                let largest = L::splat(total.stats.largest[row].max(part.stats.largest[row]));
                let before = L::exp(L::sub(L::splat(total.stats.largest[row]), largest));
                let now = L::exp(L::sub(L::splat(part.stats.largest[row]), largest));
                let sum = L::fma(
                    L::splat(total.stats.sum[row]),
                    before,
                    L::mul(L::splat(part.stats.sum[row]), now),
                );
                let mut lanes = [0f32; 16];
                L::store(lanes.as_mut_ptr(), sum);
                total.stats.sum[row] = lanes[0];
                total.stats.largest[row] = total.stats.largest[row].max(part.stats.largest[row]);
                for at in (row * stride..(row + 1) * stride).step_by(16) {
                    let (from, to) = (part.values.as_ptr().add(at), total.values.as_mut_ptr().add(at));
                    L::store(to, L::fma(L::load(to), before, L::mul(L::load(from), now)));
                }
            }
        }
    }
}
