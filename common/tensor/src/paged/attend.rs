//! Attention over the cache on the CPU: distribution of the work among threads, and merging of partial results.
//!
//! Keys are processed in tiles of [`KEY_TILE`] by their position in the sequence. Each tile is computed on its own
//! (largest score, sum, weighted values: Milakov & Gimelshein 2018, "Online normalizer calculation for softmax");
//! tiles are merged in order into spans ([`spans`]), and spans in order into the result. The work is divided only
//! between spans, so the result of a row depends neither on the other rows nor on the division of the work.
//!
//! A tile of keys is used for many rows while it is in the second-level cache: the cache is read once for a whole
//! chunk of a prompt, not once for every few of its rows.

use std::cell::RefCell;

use tch::Tensor;

use super::kernel::{Merge, Scores, TILE_BLOCKS, TilePass};
use super::store::{Rows, Store};
use super::{AttentionSpan, CACHE_BLOCK_TOKENS, PagedSegment, ValueStorage};
use crate::cpu::lanes::{LaneFloat, dispatch};
use crate::cpu::pool::{self, SharedMut};
use crate::host;

/// Keys that are computed together.
pub(super) const KEY_TILE: usize = TILE_BLOCKS * CACHE_BLOCK_TOKENS;
/// Rows (a token's query heads that share a key head, token after token) that are computed together.
pub(super) const ROW_TILE: usize = 8;
/// Rows that share a pass over the keys.
const ITEM_ROWS: usize = 8 * ROW_TILE;
/// Pieces of work for each thread, so that threads finish together.
const PIECES: usize = 6;

/// The spans of the first `tiles` tiles of keys, each as `[first, end]`: single tiles at first, so that threads can
/// share a short context; longer ones further on, since the partial results of a long context would otherwise need
/// much memory.
fn spans(tiles: usize) -> impl Iterator<Item = [usize; 2]> {
    let first = move |tile: usize| (tile < tiles).then_some(tile);
    std::iter::successors(first(0), move |&tile| first(span_end(tile)))
        .map(move |tile| [tile, span_end(tile).min(tiles)])
}

/// The end of the span that begins with `tile`.
fn span_end(tile: usize) -> usize {
    match tile {
        0..16 => tile + 1,
        16..64 => tile + 4,
        _ => tile + 16,
    }
}

/// Some rows of one segment and key head.
#[derive(Debug, Clone, Copy)]
struct WorkItem {
    segment: usize,
    /// First token of the segment in the step.
    token: usize,
    /// Index of the key head.
    head: usize,
    /// Number of query heads for each key head.
    group: usize,
    /// First of the rows, within the segment.
    row: usize,
    rows: usize,
    /// First tile of keys that the first row attends to.
    first: usize,
    /// End of the tiles of keys that the last row attends to.
    tiles: usize,
    /// Which keys a row attends to.
    window: AttentionSpan,
}

impl WorkItem {
    /// All work of a step. The longest items of a segment come first, so that the threads finish together.
    fn list(segments: &[PagedSegment<'_>], heads: usize, group: usize, window: AttentionSpan) -> Vec<Self> {
        let mut items = Vec::new();
        let mut token = 0;
        for (index, segment) in segments.iter().enumerate() {
            let all = segment.len * group;
            for row in (0..all).step_by(ITEM_ROWS).rev() {
                let rows = ITEM_ROWS.min(all - row);
                let first = window.first(segment.start + row / group + 1) / KEY_TILE;
                let tiles = (segment.start + (row + rows - 1) / group + 1).div_ceil(KEY_TILE);
                items.extend((0..heads).map(|head| Self {
                    segment: index,
                    token,
                    head,
                    group,
                    row,
                    rows,
                    first,
                    tiles,
                    window,
                }));
            }
            token += segment.len;
        }
        items
    }

    fn row_tiles(&self) -> usize {
        self.rows.div_ceil(ROW_TILE)
    }

    /// First row of a tile of rows, within the item, and the number of rows.
    fn row_tile(&self, index: usize) -> (usize, usize) {
        let first = index * ROW_TILE;
        (first, ROW_TILE.min(self.rows - first))
    }

    /// End of the keys that a row of the item attends to, for a segment that begins at `start`.
    fn keys(&self, row: usize, start: usize) -> usize {
        start + (self.row + row) / self.group + 1
    }

    /// End of the tiles of keys that some row of a tile of rows attends to.
    fn tiles_of(&self, row_tile: usize, start: usize) -> usize {
        let (first, rows) = self.row_tile(row_tile);
        self.keys(first + rows - 1, start).div_ceil(KEY_TILE)
    }

    /// First tile of keys that some row of a tile of rows attends to.
    fn first_tile(&self, row_tile: usize, start: usize) -> usize {
        let (first, _) = self.row_tile(row_tile);
        self.window.first(self.keys(first, start)) / KEY_TILE
    }

    /// The spans with a tile that some row attends to.
    fn spans(&self) -> impl Iterator<Item = [usize; 2]> {
        let first = self.first;
        spans(self.tiles).skip_while(move |[_, end]| *end <= first)
    }

    /// Token and query head of a row, in the step.
    fn place(&self, row: usize) -> (usize, usize) {
        let row = self.row + row;
        (self.token + row / self.group, self.head * self.group + row % self.group)
    }
}

/// What one thread computes at a time.
#[derive(Debug, Clone, Copy)]
enum Piece {
    /// An item, from its first tile of keys to its last.
    Whole(usize),
    /// Some spans of an item, whose results are stored in the states from `states` on: `[spans of the item][tiles of
    /// rows]`.
    TilePass { item: usize, spans: [usize; 2], states: usize },
}

/// The division of the items into pieces.
struct Pieces {
    pieces: Vec<Piece>,
    /// What is merged afterwards: item, tile of rows, first state of the item.
    merges: Vec<(usize, usize, usize)>,
    states: usize,
}

impl Pieces {
    /// Items larger than a thread's fair share of the work are divided along their keys.
    fn new(items: &[WorkItem]) -> Self {
        let threads = pool::threads();
        let work = |item: &WorkItem| item.row_tiles() * (item.tiles - item.first);
        let share = items.iter().map(work).sum::<usize>().div_ceil(PIECES * threads).max(1);
        let mut all = Self { pieces: Vec::with_capacity(items.len()), merges: Vec::new(), states: 0 };
        for (index, item) in items.iter().enumerate() {
            if threads == 1 || work(item) <= share || item.tiles - item.first == 1 {
                all.pieces.push(Piece::Whole(index));
                continue;
            }
            let states = all.states;
            // First span and first tile of the piece, and the number of spans so far.
            let (mut first, mut begin, mut count) = (0, item.first, 0);
            for [_, end] in item.spans() {
                count += 1;
                if (end - begin) * item.row_tiles() >= share || end == item.tiles {
                    all.pieces.push(Piece::TilePass { item: index, spans: [first, count], states });
                    (first, begin) = (count, end);
                }
            }
            all.merges.extend((0..item.row_tiles()).map(|row_tile| (index, row_tile, states)));
            all.states += count * item.row_tiles();
        }
        all
    }
}

/// The partial result of a tile of rows, before its values are divided by the sums.
pub(super) struct State<'a> {
    pub(super) stats: &'a mut RowStats,
    /// `[rows][dim, padded]`.
    pub(super) values: &'a mut [f32],
}

impl State<'_> {
    fn lend(&mut self) -> State<'_> {
        State { stats: self.stats, values: self.values }
    }
}

/// Largest score and sum of each row.
#[derive(Default, Clone, Copy)]
pub(super) struct RowStats {
    pub(super) largest: [f32; ROW_TILE],
    pub(super) sum: [f32; ROW_TILE],
}

/// Reusable memory for states.
#[derive(Default)]
struct States {
    stats: Vec<RowStats>,
    values: Vec<f32>,
}

impl States {
    /// `count` states of `each` values, with undefined content.
    fn take(&mut self, count: usize, each: usize) -> SharedStates {
        if self.stats.len() < count {
            self.stats.resize(count, RowStats::default());
        }
        if self.values.len() < count * each {
            self.values.resize(count * each, 0.0);
        }
        SharedStates {
            stats: SharedMut::new(&mut self.stats),
            values: SharedMut::new(&mut self.values),
            each,
        }
    }
}

#[derive(Clone, Copy)]
struct SharedStates {
    stats: SharedMut<RowStats>,
    values: SharedMut<f32>,
    each: usize,
}

impl SharedStates {
    /// # Safety
    /// `index` is below the count of `take`, the memory is not taken again meanwhile, and nothing else uses this
    /// state at the same time.
    unsafe fn get<'a>(self, index: usize) -> State<'a> {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let values = self.values.slice(index * self.each, self.each);
            State { stats: &mut self.stats.slice(index, 1)[0], values }
        }
    }
}

/// Memory of one thread for the item that it computes.
#[derive(Default)]
struct Scratch {
    /// The tiles of rows, one after the other.
    query: Vec<f32>,
    scores: Scores,
    states: States,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
    /// Memory of the calling thread for the partial results of all threads.
    static PARTS: RefCell<States> = RefCell::default();
}

/// One call of attention over a layer: `query` `[tokens, heads, key_dim]` → `output` `[tokens, heads, dim]`.
pub(super) struct Call<'a, T, Q> {
    store: &'a Store,
    layer: usize,
    query: &'a Rows<Q>,
    heads: usize,
    segments: &'a [PagedSegment<'a>],
    window: AttentionSpan,
    scale: f32,
    output: SharedMut<Q>,
    cached: std::marker::PhantomData<fn() -> T>,
}

impl<'a, T: LaneFloat, Q: LaneFloat> Call<'a, T, Q> {
    pub(super) fn new(
        (store, layer): (&'a Store, usize),
        (query, heads): (&'a Rows<Q>, usize),
        segments: &'a [PagedSegment<'a>],
        (window, scale): (AttentionSpan, f64),
        output: &Tensor,
    ) -> Self {
        let output = SharedMut::new(host::slice_mut::<Q>(output));
        let (scale, cached) = (scale as f32, std::marker::PhantomData);
        Self { store, layer, query, heads, segments, window, scale, output, cached }
    }

    pub(super) fn run(&self) {
        let key_heads = self.store.shape.heads;
        let items = WorkItem::list(self.segments, key_heads, self.heads / key_heads, self.window);
        let Pieces { pieces, merges, states } = Pieces::new(&items);
        PARTS.with_borrow_mut(|parts| {
            let parts = parts.take(states, self.state_values());
            // Several pieces are claimed at once where each is little work.
            let step = (pieces.len() / (16 * pool::threads())).clamp(1, 16);
            pool::run(pieces.len().div_ceil(step), |claim| {
                for piece in pieces.iter().skip(claim * step).take(step) {
                    match *piece {
                        Piece::Whole(item) => self.whole(&items[item]),
                        Piece::TilePass { item, spans, states } => {
                            self.part(&items[item], spans, |span, row_tile| {
                                let index = states + span * items[item].row_tiles() + row_tile;
                                // SAFETY: no other piece has these spans of the item's states.
                                unsafe { parts.get(index) }
                            });
                        }
                    }
                }
            });
            pool::run(merges.len(), |index| {
                let (item, row_tile, states) = merges[index];
                let item = &items[item];
                let start = self.segments[item.segment].start;
                let (first, tiles) = (item.first_tile(row_tile, start), item.tiles_of(row_tile, start));
                // SAFETY: all partial results are computed, and no other piece has this tile of rows of the item.
                let state = |span| unsafe { parts.get(states + span * item.row_tiles() + row_tile) };
                let own = |[begin, end]: [usize; 2]| end > first && begin < tiles;
                let mut own =
                    item.spans().enumerate().filter(|&(_, span)| own(span)).map(|(number, _)| number);
                let mut total = state(own.next().unwrap_or(0));
                for span in own {
                    self.merge(item.row_tile(row_tile).1, &state(span), &mut total);
                }
                self.give(item, row_tile, &total);
            });
        });
    }

    /// Computes all spans of an item, one after the other.
    fn whole(&self, item: &WorkItem) {
        let start = self.segments[item.segment].start;
        let row_tiles = item.row_tiles();
        SCRATCH.with_borrow_mut(|Scratch { query, scores, states }| {
            self.take_query(item, query);
            // The totals, the current span, and its current tile.
            let states = states.take(2 * row_tiles + 1, self.state_values());
            // SAFETY: the memory is this thread's, and the states in use at the same time are different ones.
            let state = |index: usize| unsafe { states.get(index) };
            for span in item.spans() {
                // The first span of a tile of rows is the first part of its total.
                let is_first = |row_tile| span[0] <= item.first_tile(row_tile, start);
                let place = |row_tile| if is_first(row_tile) { row_tile } else { row_tiles + row_tile };
                self.span(
                    item,
                    span,
                    (query, scores),
                    |row_tile| state(place(row_tile)),
                    state(2 * row_tiles),
                );
                for row_tile in 0..row_tiles {
                    if !is_first(row_tile) && span[0] < item.tiles_of(row_tile, start) {
                        let rows = item.row_tile(row_tile).1;
                        self.merge(rows, &state(row_tiles + row_tile), &mut state(row_tile));
                    }
                }
            }
            for row_tile in 0..row_tiles {
                self.give(item, row_tile, &state(row_tile));
            }
        });
    }

    /// Computes spans `first..end` of an item, each into the states for the span and the tiles of rows.
    fn part<'s>(&self, item: &WorkItem, [first, end]: [usize; 2], state: impl Fn(usize, usize) -> State<'s>) {
        SCRATCH.with_borrow_mut(|Scratch { query, scores, states }| {
            self.take_query(item, query);
            let states = states.take(1, self.state_values());
            for (number, span) in item.spans().enumerate().take(end).skip(first) {
                // SAFETY: the only state in use, in this thread's memory.
                let newest = unsafe { states.get(0) };
                self.span(item, span, (query, scores), |row_tile| state(number, row_tile), newest);
            }
        });
    }

    /// Computes the tiles of keys of one span, each with all tiles of rows that attend to it, into their states;
    /// `newest` is memory for one tile.
    fn span<'s>(
        &self,
        item: &WorkItem,
        [first, end]: [usize; 2],
        (query, scores): (&[f32], &mut Scores),
        state: impl Fn(usize) -> State<'s>,
        mut newest: State<'_>,
    ) {
        let start = self.segments[item.segment].start;
        for tile in first..end {
            for row_tile in 0..item.row_tiles() {
                let own = item.first_tile(row_tile, start);
                if tile < own || tile >= item.tiles_of(row_tile, start) {
                    continue;
                }
                let mut total = state(row_tile);
                if tile == first.max(own) {
                    self.compute(item, row_tile, tile, query, scores, &mut total);
                } else {
                    self.compute(item, row_tile, tile, query, scores, &mut newest);
                    self.merge(item.row_tile(row_tile).1, &newest, &mut total);
                }
            }
        }
    }

    /// Elements of a row of values in a state.
    fn values_stride(&self) -> usize {
        self.store.shape.value.dim().next_multiple_of(16)
    }

    fn state_values(&self) -> usize {
        ROW_TILE * self.values_stride()
    }

    /// Elements of the queries of a tile of rows.
    fn tile_query(&self) -> usize {
        ROW_TILE * self.store.shape.key_dim.next_multiple_of(16)
    }

    /// Reads the item's queries times the scale: for each tile of rows `[key_dim][rows]`, or `[rows][key_dim padded]`
    /// where keys are stored in rows.
    fn take_query(&self, item: &WorkItem, query: &mut Vec<f32>) {
        let each = self.tile_query();
        query.clear();
        query.resize(item.row_tiles() * each, 0.0);
        for (row_tile, query) in query.chunks_exact_mut(each).enumerate() {
            let (first, rows) = item.row_tile(row_tile);
            let (step, stride) = match self.store.shape.value {
                ValueStorage::Separate(_) => (kernel_rows(rows), 1),
                ValueStorage::KeyPrefix(_) => (1, self.store.row_stride()),
            };
            for index in 0..rows {
                let (token, head) = item.place(first + index);
                let values = self.query.get(token, head);
                let places = query[index * stride..].iter_mut().step_by(step);
                places.zip(values).for_each(|(place, value)| *place = value.widen() * self.scale);
            }
        }
    }

    /// Computes a tile of rows with a tile of keys.
    fn compute(
        &self,
        item: &WorkItem,
        row_tile: usize,
        tile: usize,
        query: &[f32],
        scores: &mut Scores,
        state: &mut State<'_>,
    ) {
        let segment = &self.segments[item.segment];
        let (first_row, rows) = item.row_tile(row_tile);
        let first = tile * KEY_TILE;
        // Which keys of the tile each row attends to.
        let (mut seen, mut skipped) = ([0usize; ROW_TILE], [0usize; ROW_TILE]);
        for (index, (seen, skipped)) in seen.iter_mut().zip(&mut skipped).enumerate().take(rows) {
            let keys = item.keys(first_row + index, segment.start);
            *seen = keys.saturating_sub(first).min(KEY_TILE);
            *skipped = self.window.first(keys).saturating_sub(first).min(KEY_TILE);
        }
        let blocks = seen[rows - 1].div_ceil(CACHE_BLOCK_TOKENS);
        let mut keys = [std::ptr::null::<T>(); TILE_BLOCKS];
        let mut values = keys;
        let table = &segment.blocks[tile * TILE_BLOCKS..][..blocks];
        for (index, &block) in table.iter().enumerate() {
            keys[index] = self.store.keys(self.layer, block, item.head);
            values[index] = self.store.values(self.layer, block, item.head);
        }
        let each = self.tile_query();
        let part = TilePass {
            query: &query[row_tile * each..][..each],
            rows: kernel_rows(rows),
            seen,
            skipped,
            keys: &keys[..blocks],
            values: &values[..blocks],
            key_dim: self.store.shape.key_dim,
            by_rows: matches!(self.store.shape.value, ValueStorage::KeyPrefix(_)),
            stride: self.store.row_stride(),
            value_stride: self.values_stride(),
            scores,
            state: state.lend(),
        };
        dispatch(self.store.level, part);
    }

    fn merge(&self, rows: usize, part: &State<'_>, total: &mut State<'_>) {
        dispatch(self.store.level, Merge { rows, stride: self.values_stride(), part, total: total.lend() });
    }

    /// Divides by the sums and writes a tile of rows to the output.
    fn give(&self, item: &WorkItem, row_tile: usize, total: &State<'_>) {
        let dim = self.store.shape.value.dim();
        let (first, rows) = item.row_tile(row_tile);
        for (index, values) in total.values.chunks_exact(self.values_stride()).enumerate().take(rows) {
            let (token, head) = item.place(first + index);
            // SAFETY: no other item has these rows of the output, which has a row for each token and head.
            let to = unsafe { self.output.slice((token * self.heads + head) * dim, dim) };
            let factor = 1.0 / total.stats.sum[index];
            to.iter_mut().zip(values).for_each(|(to, value)| *to = Q::narrow(value * factor));
        }
    }
}

/// The kernel is compiled for some numbers of rows; the remaining rows are padding.
fn kernel_rows(rows: usize) -> usize {
    if rows <= 4 { rows } else { ROW_TILE }
}

#[cfg(test)]
mod tests {
    use super::spans;

    #[test]
    fn spans_cover_every_tile_once_and_their_starts_do_not_depend_on_the_length() {
        let all: Vec<[usize; 2]> = spans(300).collect();
        for tiles in 0..300 {
            let mut end = 0;
            for (span, known) in spans(tiles).zip(&all) {
                assert_eq!((span[0], known[0]), (end, end), "{tiles} tiles");
                assert!(span[1] == known[1] || span[1] == tiles, "{tiles} tiles: {span:?}");
                end = span[1];
            }
            assert_eq!(end, tiles);
        }
        assert_eq!(spans(1024).count(), 16 + 12 + 60);
    }
}
