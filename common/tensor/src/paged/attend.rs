//! Attention over the cache on the CPU: what is done by whom, and how partial results become one.
//!
//! Keys are taken in tiles of [`KEY_TILE`] by their position in the sequence. Each tile is computed for itself (largest
//! score, sum, weighted values: Milakov & Gimelshein 2018, "Online normalizer calculation for softmax"), and tiles are
//! merged in order. So a row's result depends neither on the other rows nor on how the work was divided.

use std::cell::RefCell;

use tch::Tensor;

use super::kernel::{Merge, Part, Scores, TILE_BLOCKS};
use super::store::{Rows, Store};
use super::{CACHE_BLOCK_TOKENS, CachedValue, PagedSegment};
use crate::cpu::lanes::{LaneFloat, dispatch};
use crate::cpu::pool::{self, SharedMut};
use crate::host;

/// Keys that are computed together.
pub(super) const KEY_TILE: usize = TILE_BLOCKS * CACHE_BLOCK_TOKENS;
/// Rows (a token's query heads that share a key head, token after token) that are computed together.
pub(super) const ROW_TILE: usize = 8;

/// Some rows of one segment and key head.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    segment: usize,
    /// First token of the segment in the step.
    token: usize,
    /// Key head.
    head: usize,
    /// Query heads of a key head.
    group: usize,
    /// First of the rows within the segment.
    row: usize,
    rows: usize,
    /// Key tiles that they look at.
    tiles: usize,
}

impl Item {
    /// All that is to be done, the longest of a segment first, so that the threads finish together.
    pub(super) fn list(segments: &[PagedSegment<'_>], heads: usize, group: usize) -> Vec<Self> {
        let mut items = Vec::new();
        let mut token = 0;
        for (index, segment) in segments.iter().enumerate() {
            let all = segment.len * group;
            for first in (0..all).step_by(ROW_TILE).rev() {
                let rows = ROW_TILE.min(all - first);
                let keys = segment.start + (first + rows - 1) / group + 1;
                let tiles = keys.div_ceil(KEY_TILE);
                items.extend((0..heads).map(|head| Self {
                    segment: index,
                    token,
                    head,
                    group,
                    row: first,
                    rows,
                    tiles,
                }));
            }
            token += segment.len;
        }
        items
    }
}

/// Everything that the items of one call share.
struct Call<'a, T, Q> {
    store: &'a Store,
    layer: usize,
    query: &'a Rows<Q>,
    heads: usize,
    segments: &'a [PagedSegment<'a>],
    scale: f32,
    output: SharedMut<Q>,
    cached: std::marker::PhantomData<fn() -> T>,
}

/// Computes `items` into `output` `[tokens, heads, dim]`.
#[expect(clippy::too_many_arguments, reason = "the seam between storage and arithmetic; called once")]
pub(super) fn run<T: LaneFloat, Q: LaneFloat>(
    store: &Store,
    layer: usize,
    query: &Rows<Q>,
    heads: usize,
    segments: &[PagedSegment<'_>],
    items: &[Item],
    scale: f32,
    output: &Tensor,
) {
    let output = SharedMut::new(host::slice_mut::<Q>(output));
    let cached = std::marker::PhantomData;
    let call = Call::<T, Q> { store, layer, query, heads, segments, scale, output, cached };
    let parts: usize = items.iter().map(|item| item.tiles).sum();
    // Few rows with many keys (decoding) are shared out by tiles of keys, else by rows.
    if items.len() < 8 * pool::threads() && parts > items.len() {
        call.by_parts(items, parts);
    } else {
        // Claims of a few items where each is little work.
        let step = (items.len() / (16 * pool::threads())).clamp(1, 16);
        pool::run(items.len().div_ceil(step), |piece| {
            items.iter().skip(piece * step).take(step).for_each(|item| call.whole(item));
        });
    }
}

/// Memory of one thread for the item it computes.
#[derive(Default)]
struct Scratch {
    query: Vec<f32>,
    part: State,
    total: State,
    scores: Scores,
}

/// A result before it is divided by the sum.
#[derive(Default, Clone)]
pub(super) struct State {
    pub(super) largest: [f32; ROW_TILE],
    pub(super) sum: [f32; ROW_TILE],
    /// `[rows][dim, padded]`.
    pub(super) values: Vec<f32>,
}

impl State {
    fn nothing(&mut self, rows: usize, stride: usize) {
        self.largest = [f32::NEG_INFINITY; ROW_TILE];
        self.sum = [0.0; ROW_TILE];
        self.values.clear();
        self.values.resize(rows * stride, 0.0);
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl<T: LaneFloat, Q: LaneFloat> Call<'_, T, Q> {
    /// All tiles of an item, one after the other.
    fn whole(&self, item: &Item) {
        SCRATCH.with_borrow_mut(|scratch| {
            let Scratch { query, part, total, scores } = scratch;
            let rows = self.take_query(item, query);
            let stride = self.values_stride();
            total.nothing(rows, stride);
            part.nothing(rows, stride);
            for tile in 0..item.tiles {
                self.part(item, tile, rows, query, scores, part);
                dispatch(self.store.level, Merge { rows: item.rows, stride, part, total });
            }
            self.give(item, total);
        });
    }

    /// Tiles side by side, then merged.
    fn by_parts(&self, items: &[Item], parts: usize) {
        let mut states = vec![State::default(); parts];
        let places: Vec<(usize, usize)> = items
            .iter()
            .enumerate()
            .flat_map(|(index, item)| (0..item.tiles).map(move |tile| (index, tile)))
            .collect();
        let stride = self.values_stride();
        let shared = SharedMut::new(&mut states);
        pool::run(parts, |piece| {
            let (index, tile) = places[piece];
            let item = &items[index];
            SCRATCH.with_borrow_mut(|Scratch { query, scores, .. }| {
                let rows = self.take_query(item, query);
                // SAFETY: each piece has the state of its number.
                let state = unsafe { &mut shared.slice(piece, 1)[0] };
                state.nothing(rows, stride);
                self.part(item, tile, rows, query, scores, state);
            });
        });
        let mut first = 0;
        let mut total = State::default();
        for item in items {
            total.nothing(kernel_rows(item.rows), stride);
            for part in &states[first..first + item.tiles] {
                dispatch(self.store.level, Merge { rows: item.rows, stride, part, total: &mut total });
            }
            first += item.tiles;
            self.give(item, &total);
        }
    }

    /// Elements of a row of values in a state.
    fn values_stride(&self) -> usize {
        self.store.shape.value.dim().next_multiple_of(16)
    }

    /// The item's queries times the scale: `[key_dim][rows]`, or `[rows][key_dim padded]` where keys lie in rows. Gives the
    /// number of rows that the kernel computes.
    fn take_query(&self, item: &Item, query: &mut Vec<f32>) -> usize {
        let rows = kernel_rows(item.rows);
        let (step, stride) = match self.store.shape.value {
            CachedValue::Own(_) => (rows, 1),
            CachedValue::OfKey(_) => (1, self.store.row_stride()),
        };
        query.clear();
        query.resize(rows * self.store.shape.key_dim.next_multiple_of(16), 0.0);
        for index in 0..item.rows {
            let row = item.row + index;
            let values =
                self.query.get(item.token + row / item.group, item.head * item.group + row % item.group);
            for (k, value) in values.iter().enumerate() {
                query[index * stride + k * step] = value.widen() * self.scale;
            }
        }
        rows
    }

    /// Computes one tile of keys.
    fn part(
        &self,
        item: &Item,
        tile: usize,
        rows: usize,
        query: &[f32],
        scores: &mut Scores,
        state: &mut State,
    ) {
        let segment = &self.segments[item.segment];
        let first = tile * KEY_TILE;
        // How many keys of the tile each row sees.
        let mut seen = [0usize; ROW_TILE];
        for (index, seen) in seen.iter_mut().enumerate().take(item.rows) {
            let keys = segment.start + (item.row + index) / item.group + 1;
            *seen = keys.saturating_sub(first).min(KEY_TILE);
        }
        let most = seen[item.rows - 1];
        let blocks = most.div_ceil(CACHE_BLOCK_TOKENS);
        let mut keys = [std::ptr::null::<T>(); TILE_BLOCKS];
        let mut values = keys;
        let table = &segment.blocks[tile * TILE_BLOCKS..][..blocks];
        for (index, &block) in table.iter().enumerate() {
            keys[index] = self.store.keys(self.layer, block, item.head);
            values[index] = self.store.values(self.layer, block, item.head);
        }
        let part = Part {
            query,
            rows,
            seen,
            keys: &keys[..blocks],
            values: &values[..blocks],
            key_dim: self.store.shape.key_dim,
            by_rows: matches!(self.store.shape.value, CachedValue::OfKey(_)),
            stride: self.store.row_stride(),
            value_stride: self.values_stride(),
            scores,
            state,
        };
        dispatch(self.store.level, part);
    }

    /// Divides by the sums and writes the item's rows to the output.
    fn give(&self, item: &Item, total: &State) {
        let dim = self.store.shape.value.dim();
        for (index, values) in total.values.chunks_exact(self.values_stride()).enumerate().take(item.rows) {
            let row = item.row + index;
            let token = item.token + row / item.group;
            let place = (token * self.heads + item.head * item.group + row % item.group) * dim;
            // SAFETY: this item alone has these rows of the output, which has a row for each token and head.
            let to = unsafe { self.output.slice(place, dim) };
            let factor = 1.0 / total.sum[index];
            to.iter_mut().zip(values).for_each(|(to, value)| *to = Q::narrow(value * factor));
        }
    }
}

/// The kernel is compiled for some numbers of rows; the rest is filled up.
fn kernel_rows(rows: usize) -> usize {
    if rows <= 4 { rows } else { ROW_TILE }
}
