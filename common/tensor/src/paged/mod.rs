//! The KV cache in blocks of tokens, and attention over it: many sequences of different lengths in one call
//! (Kwon et al. 2023, "Efficient memory management for large language model serving with PagedAttention").

mod attend;
mod gathered;
mod kernel;
mod store;

use tch::{Device, Kind, Tensor};

use crate::TensorError;
use crate::cpu::lanes::Level;
use gathered::Gathered;
use store::Store;

/// Tokens in a block.
pub const CACHE_BLOCK_TOKENS: usize = 16;

/// Where the values of a cached token come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueStorage {
    /// They are stored beside the keys: so many a head.
    Separate(usize),
    /// They are the first so many elements of the key (multi-head latent attention: 512 of 576).
    KeyPrefix(usize),
}

impl ValueStorage {
    /// Elements of a value.
    pub fn dim(self) -> usize {
        match self {
            Self::Separate(dim) | Self::KeyPrefix(dim) => dim,
        }
    }
}

/// Sizes of a cache that do not change while the model is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvCacheShape {
    /// Number of layers.
    pub layers: usize,
    /// Heads of keys and values.
    pub heads: usize,
    /// Elements of a key.
    pub key_dim: usize,
    /// Elements and place of a value.
    pub value: ValueStorage,
}

/// Consecutive tokens of one sequence in a step.
#[derive(Debug, Clone, Copy)]
pub struct PagedSegment<'a> {
    /// Position of the first: so many tokens of the sequence are in the cache before it.
    pub start: usize,
    /// How many.
    pub len: usize,
    /// Blocks of the sequence in order, for at least `start + len` tokens.
    pub blocks: &'a [u32],
}

/// Keys and values of all layers.
pub struct KvCache {
    shape: KvCacheShape,
    kind: Kind,
    blocks: usize,
    storage: CacheStorage,
}

enum CacheStorage {
    Host(Store),
    Device(Gathered),
}

impl KvCache {
    /// An empty cache that holds f32, bf16 or f16.
    ///
    /// # Errors
    /// As [`KvCache::resize`].
    pub fn new(shape: KvCacheShape, kind: Kind, device: Device) -> Result<Self, TensorError> {
        if let ValueStorage::KeyPrefix(dim) = shape.value {
            assert!(dim <= shape.key_dim, "{shape:?}");
        }
        let storage = match device {
            Device::Cpu => CacheStorage::Host(Store::new(shape, kind, Level::detect())?),
            device => CacheStorage::Device(Gathered::new(shape, kind, device)?),
        };
        Ok(Self { shape, kind, blocks: 0, storage })
    }

    /// The sizes it was made with.
    pub fn shape(&self) -> KvCacheShape {
        self.shape
    }

    /// How many blocks it has.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Bytes a token takes in all layers together.
    pub fn bytes_per_token(&self) -> u64 {
        let value = if let ValueStorage::Separate(dim) = self.shape.value { dim } else { 0 };
        let elements = self.shape.layers * self.shape.heads * (self.shape.key_dim + value);
        (elements * self.kind.elt_size_in_bytes()) as u64
    }

    /// Makes it `blocks` large: blocks that stay keep their content, memory of those that go is given back.
    ///
    /// # Errors
    /// [`TensorError::OutOfMemory`]; the cache is then as before.
    pub fn resize(&mut self, blocks: usize) -> Result<(), TensorError> {
        match &mut self.storage {
            CacheStorage::Host(store) => store.resize(blocks)?,
            CacheStorage::Device(store) => store.resize(blocks)?,
        }
        self.blocks = blocks;
        Ok(())
    }

    /// Stores the segments' new keys and values at their positions.
    ///
    /// `key`: `[T, heads, key_dim]`, `value`: `[T, heads, dim]` (none with [`ValueStorage::KeyPrefix`]), rows in the order of the
    /// segments, f32, bf16 or f16; the last two dimensions are contiguous, rows may be parts of wider ones.
    pub fn write(
        &mut self,
        layer: usize,
        key: &Tensor,
        value: Option<&Tensor>,
        segments: &[PagedSegment<'_>],
    ) {
        self.check(layer, segments);
        assert_eq!(
            value.is_some(),
            matches!(self.shape.value, ValueStorage::Separate(_)),
            "{:?}",
            self.shape
        );
        match &mut self.storage {
            CacheStorage::Host(store) => store.write(layer, key, value, segments),
            CacheStorage::Device(store) => store.write(layer, key, value, segments),
        }
    }

    /// Causal attention of the segments' queries over everything of their sequences up to themselves, which must be in the
    /// cache already. Query heads share key heads in groups of neighbours.
    ///
    /// `query`: `[T, query_heads, key_dim]` f32, bf16 or f16, last two dimensions contiguous → `[T, query_heads, dim]`,
    /// contiguous, in the query's type. A row's result is bit for bit the same in every batch and chunking on the CPU.
    pub fn attention(
        &self,
        layer: usize,
        query: &Tensor,
        segments: &[PagedSegment<'_>],
        scale: f64,
    ) -> Tensor {
        self.check(layer, segments);
        match &self.storage {
            CacheStorage::Host(store) => store.attention(layer, query, segments, scale),
            CacheStorage::Device(store) => store.attention(layer, query, segments, scale),
        }
    }

    fn check(&self, layer: usize, segments: &[PagedSegment<'_>]) {
        assert!(layer < self.shape.layers, "layer {layer} of {}", self.shape.layers);
        for segment in segments {
            let needed = (segment.start + segment.len).div_ceil(CACHE_BLOCK_TOKENS);
            assert!(needed <= segment.blocks.len(), "{needed} blocks needed, {} given", segment.blocks.len());
            let largest = segment.blocks[..needed].iter().max().map_or(0, |&block| block as usize + 1);
            assert!(largest <= self.blocks, "block {largest} of {}", self.blocks);
        }
    }
}

#[cfg(test)]
mod tests;
