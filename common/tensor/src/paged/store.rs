//! The cache in host memory, in the layout of the CPU kernel.

use half::{bf16, f16};
use tch::{Device, Kind, Tensor};

use super::attend::Call;
use super::{AttentionSpan, CACHE_BLOCK_TOKENS, KvCacheShape, PagedSegment, ValueStorage};
use crate::TensorError;
use crate::cpu::Pages;
use crate::cpu::lanes::{LaneFloat, Level};
use crate::cpu::pool::{self, SharedMut};
use crate::host::{HostElement, HostFloat};

/// With [`ValueStorage::Separate`], a block's keys of one head are `[key_dim][16 tokens]`, so that 16 scores are
/// computed in one register without a horizontal sum, and its values `[16 tokens][dim]`. With
/// [`ValueStorage::KeyPrefix`], keys are `[16 tokens][key_dim]`. Rows are padded to whole registers.
pub(super) struct Store {
    pub(super) shape: KvCacheShape,
    pub(super) kind: Kind,
    pub(super) level: Level,
    blocks: usize,
    /// For each layer and head `[blocks]` of `key_elements`: the blocks of a sequence, which are mostly neighbours,
    /// are read sequentially, which takes about two thirds of the time of strided reads.
    keys: Vec<Pages>,
    /// For each layer and head `[blocks]` of `value_elements`.
    values: Vec<Pages>,
}

impl Store {
    pub(super) fn new(shape: KvCacheShape, kind: Kind, level: Level) -> Result<Self, TensorError> {
        assert!(matches!(kind, Kind::Float | Kind::BFloat16 | Kind::Half), "a cache of {kind:?}");
        let heads = || (0..shape.layers * shape.heads).map(|_| Pages::zeroed(0)).collect::<Result<_, _>>();
        Ok(Self { shape, kind, level, blocks: 0, keys: heads()?, values: heads()? })
    }

    /// Elements between consecutive key or value rows in memory, where rows are contiguous.
    pub(super) fn row_stride(&self) -> usize {
        match self.shape.value {
            ValueStorage::Separate(dim) => dim.next_multiple_of(16),
            ValueStorage::KeyPrefix(_) => self.shape.key_dim.next_multiple_of(16),
        }
    }

    /// Elements of the keys of one head in a block.
    pub(super) fn key_elements(&self) -> usize {
        match self.shape.value {
            ValueStorage::Separate(_) => CACHE_BLOCK_TOKENS * self.shape.key_dim,
            ValueStorage::KeyPrefix(_) => CACHE_BLOCK_TOKENS * self.row_stride(),
        }
    }

    /// Elements of the values of one head in a block.
    pub(super) fn value_elements(&self) -> usize {
        match self.shape.value {
            ValueStorage::Separate(_) => CACHE_BLOCK_TOKENS * self.row_stride(),
            ValueStorage::KeyPrefix(_) => 0,
        }
    }

    /// Bytes of the keys and of the values of one head with `blocks` blocks.
    fn bytes(&self, blocks: usize) -> Option<[usize; 2]> {
        let bytes = |elements: usize| blocks.checked_mul(elements * self.kind.elt_size_in_bytes());
        Some([bytes(self.key_elements())?, bytes(self.value_elements())?])
    }

    pub(super) fn resize(&mut self, blocks: usize) -> Result<(), TensorError> {
        let before = self.blocks;
        self.resize_heads(blocks).inspect_err(|_| {
            // Back to the previous size, which only releases memory.
            let _ = self.resize_heads(before);
        })?;
        self.blocks = blocks;
        Ok(())
    }

    fn resize_heads(&mut self, blocks: usize) -> Result<(), TensorError> {
        let too_many = || TensorError::OutOfMemory(format!("a cache of {blocks} blocks"));
        let [keys, values] = self.bytes(blocks).ok_or_else(too_many)?;
        self.keys.iter_mut().try_for_each(|head| head.resize(keys))?;
        self.values.iter_mut().try_for_each(|head| head.resize(values))
    }

    /// Pointer to the keys of `head` in a block of a layer.
    pub(super) fn keys<T>(&self, layer: usize, block: u32, head: usize) -> *const T {
        let index = block as usize * self.key_elements();
        self.keys[layer * self.shape.heads + head].as_ptr().cast::<T>().wrapping_add(index)
    }

    /// As [`Store::keys`], for the values.
    pub(super) fn values<T>(&self, layer: usize, block: u32, head: usize) -> *const T {
        match self.shape.value {
            ValueStorage::Separate(_) => {
                let index = block as usize * self.value_elements();
                self.values[layer * self.shape.heads + head].as_ptr().cast::<T>().wrapping_add(index)
            }
            ValueStorage::KeyPrefix(_) => self.keys(layer, block, head),
        }
    }

    pub(super) fn write(
        &mut self,
        layer: usize,
        key: &Tensor,
        value: Option<&Tensor>,
        segments: &[PagedSegment<'_>],
    ) {
        match self.kind {
            Kind::BFloat16 => self.write_as::<bf16>(layer, key, value, segments),
            Kind::Half => self.write_as::<f16>(layer, key, value, segments),
            _ => self.write_as::<f32>(layer, key, value, segments),
        }
    }

    fn write_as<T: HostFloat>(
        &mut self,
        layer: usize,
        key: &Tensor,
        value: Option<&Tensor>,
        segments: &[PagedSegment<'_>],
    ) {
        match key.kind() {
            Kind::BFloat16 => self.write_from::<T, bf16>(layer, key, value, segments),
            Kind::Half => self.write_from::<T, f16>(layer, key, value, segments),
            _ => self.write_from::<T, f32>(layer, key, value, segments),
        }
    }

    fn write_from<T: HostFloat, S: HostFloat>(
        &mut self,
        layer: usize,
        key: &Tensor,
        value: Option<&Tensor>,
        segments: &[PagedSegment<'_>],
    ) {
        let tokens: usize = segments.iter().map(|segment| segment.len).sum();
        let KvCacheShape { heads, key_dim, .. } = self.shape;
        let key = Rows::<S>::new(key, tokens, heads, key_dim);
        let value = value.map(|value| Rows::<S>::new(value, tokens, heads, self.shape.value.dim()));
        let (key_elements, value_elements, stride) =
            (self.key_elements(), self.value_elements(), self.row_stride());
        let of_layer = layer * heads..(layer + 1) * heads;
        let to_keys = shared::<T>(&mut self.keys[of_layer.clone()]);
        let to_values = shared::<T>(&mut self.values[of_layer]);
        let runs = runs(segments);
        // Several tokens for each piece: a single one takes less time than handing it to another thread.
        let step = (8192 / (heads * key_dim * CACHE_BLOCK_TOKENS).max(1)).max(1);
        let pieces = if tokens > CACHE_BLOCK_TOKENS { runs.len().div_ceil(step) } else { 1 };
        let step = runs.len().div_ceil(pieces.max(1));
        pool::run(pieces, |piece| {
            for run in runs.iter().skip(piece * step).take(step) {
                for head in 0..heads {
                    let place = run.block as usize;
                    // SAFETY: a run is within one block, which `KvCache::check` found to be inside the cache; runs of
                    // one step are different tokens, so nothing else writes here; the rows were checked to hold
                    // `tokens`.
                    unsafe {
                        let keys = to_keys[head].slice(place * key_elements, key_elements);
                        match &value {
                            Some(value) => {
                                transpose(&key, head, run, keys);
                                let values = to_values[head].slice(place * value_elements, value_elements);
                                copy(value, head, run, stride, values);
                            }
                            None => copy(&key, head, run, stride, keys),
                        }
                    }
                }
            }
        });
    }

    pub(super) fn attention(
        &self,
        layer: usize,
        query: &Tensor,
        segments: &[PagedSegment<'_>],
        scoring: (AttentionSpan, f64),
    ) -> Tensor {
        match self.kind {
            Kind::BFloat16 => self.attention_over::<bf16>(layer, query, segments, scoring),
            Kind::Half => self.attention_over::<f16>(layer, query, segments, scoring),
            _ => self.attention_over::<f32>(layer, query, segments, scoring),
        }
    }

    fn attention_over<T: LaneFloat>(
        &self,
        layer: usize,
        query: &Tensor,
        segments: &[PagedSegment<'_>],
        scoring: (AttentionSpan, f64),
    ) -> Tensor {
        match query.kind() {
            Kind::BFloat16 => self.attention_of::<T, bf16>(layer, query, segments, scoring),
            Kind::Half => self.attention_of::<T, f16>(layer, query, segments, scoring),
            _ => self.attention_of::<T, f32>(layer, query, segments, scoring),
        }
    }

    fn attention_of<T: LaneFloat, Q: LaneFloat>(
        &self,
        layer: usize,
        query: &Tensor,
        segments: &[PagedSegment<'_>],
        scoring: (AttentionSpan, f64),
    ) -> Tensor {
        let tokens: usize = segments.iter().map(|segment| segment.len).sum();
        let heads = usize::try_from(query.size()[1]).unwrap_or(0);
        assert!(
            heads.is_multiple_of(self.shape.heads),
            "{heads} query heads, {} key heads",
            self.shape.heads
        );
        let rows = Rows::<Q>::new(query, tokens, heads, self.shape.key_dim);
        let dim = self.shape.value.dim();
        let output = Tensor::empty([tokens as i64, heads as i64, dim as i64], (Q::KIND, Device::Cpu));
        Call::<T, Q>::new((self, layer), (&rows, heads), segments, scoring, &output).run();
        output
    }
}

fn shared<T>(heads: &mut [Pages]) -> Vec<SharedMut<T>> {
    heads.iter_mut().map(|head| SharedMut::from_ptr(head.as_mut_ptr().cast::<T>())).collect()
}

/// Consecutive tokens of a step within one block.
struct Run {
    /// First row in the step's tensors.
    row: usize,
    block: u32,
    /// Index of the first token in the block.
    place: usize,
    len: usize,
}

fn runs(segments: &[PagedSegment<'_>]) -> Vec<Run> {
    let mut runs = Vec::with_capacity(segments.len());
    let mut row = 0;
    for segment in segments {
        let end = segment.start + segment.len;
        let mut at = segment.start;
        while at < end {
            let place = at % CACHE_BLOCK_TOKENS;
            let len = (CACHE_BLOCK_TOKENS - place).min(end - at);
            runs.push(Run { row, block: segment.blocks[at / CACHE_BLOCK_TOKENS], place, len });
            (row, at) = (row + len, at + len);
        }
    }
    runs
}

/// Rows of a step, `[tokens, heads, dim]`, which may be columns of wider rows.
pub(super) struct Rows<S> {
    start: *const S,
    stride: usize,
    tokens: usize,
    heads: usize,
    dim: usize,
    /// Keeps the memory alive.
    _tensor: Tensor,
}

// SAFETY: only used for reading, while the tensor that it holds keeps the memory alive.
unsafe impl<S: Sync> Sync for Rows<S> {}

impl<S: HostElement> Rows<S> {
    pub(super) fn new(tensor: &Tensor, tokens: usize, heads: usize, dim: usize) -> Self {
        let fits = tensor.size() == [tokens as i64, heads as i64, dim as i64]
            && tensor.kind() == S::KIND
            && tensor.device() == Device::Cpu;
        assert!(fits, "{tokens} tokens of {heads} heads of {dim} expected, not {tensor:?}");
        let strides = tensor.stride();
        let dense = strides[2] == 1 && (strides[1] == dim as i64 || heads == 1);
        let tensor = if dense { tensor.shallow_clone() } else { tensor.contiguous() };
        let stride = usize::try_from(tensor.stride()[0]).unwrap_or(0);
        Self { start: tensor.data_ptr().cast(), stride, tokens, heads, dim, _tensor: tensor }
    }

    /// The elements of head `head` in row `token`.
    pub(super) fn get(&self, token: usize, head: usize) -> &[S] {
        assert!(token < self.tokens && head < self.heads, "row {token}, head {head}");
        // SAFETY: inside the tensor by its size and strides, which `new` read; the tensor is alive and not written.
        unsafe { std::slice::from_raw_parts(self.start.add(token * self.stride + head * self.dim), self.dim) }
    }
}

fn transpose<T: HostFloat, S: HostFloat>(rows: &Rows<S>, head: usize, run: &Run, keys: &mut [T]) {
    for index in 0..run.len {
        let row = rows.get(run.row + index, head);
        let places = keys[run.place + index..].iter_mut().step_by(CACHE_BLOCK_TOKENS);
        places.zip(row).for_each(|(place, value)| *place = T::narrow(value.widen()));
    }
}

fn copy<T: HostFloat, S: HostFloat>(rows: &Rows<S>, head: usize, run: &Run, stride: usize, to: &mut [T]) {
    for index in 0..run.len {
        let row = rows.get(run.row + index, head);
        let to = &mut to[(run.place + index) * stride..][..row.len()];
        to.iter_mut().zip(row).for_each(|(to, value)| *to = T::narrow(value.widen()));
    }
}
