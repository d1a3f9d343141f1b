//! The KV cache in blocks of tokens, and attention over it, for many sequences of different lengths in one call (Kwon
//! et al. 2023, "Efficient memory management for large language model serving with PagedAttention").

mod attend;
mod gathered;
mod kernel;
mod store;

use tch::{Device, Kind, Tensor};

use crate::TensorError;
use crate::cpu::lanes::Level;
use gathered::Gathered;
use store::Store;

/// Tokens in a cache block.
pub const CACHE_BLOCK_TOKENS: usize = 16;

/// How the values of cached tokens are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueStorage {
    /// Beside the keys; the number of elements for each head.
    Separate(usize),
    /// Not at all: a value is this many first elements of the key (multi-head latent attention: 512 of 576).
    KeyPrefix(usize),
}

impl ValueStorage {
    /// Elements of a value, for each head.
    pub fn dim(self) -> usize {
        match self {
            Self::Separate(dim) | Self::KeyPrefix(dim) => dim,
        }
    }
}

/// Sizes of a cache that are fixed while the model is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvCacheShape {
    /// Number of layers.
    pub layers: usize,
    /// Number of key and value heads.
    pub heads: usize,
    /// Elements of a key, for each head.
    pub key_dim: usize,
    /// Storage and size of a value.
    pub value: ValueStorage,
}

/// Consecutive tokens of one sequence in a step.
#[derive(Debug, Clone, Copy)]
pub struct PagedSegment<'a> {
    /// Position of the first token: the number of the sequence's tokens that are in the cache already.
    pub start: usize,
    /// Number of tokens.
    pub len: usize,
    /// The sequence's cache blocks in order, for at least `start + len` tokens.
    pub blocks: &'a [u32],
}

/// Which tokens of its sequence a token attends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AttentionSpan {
    /// All up to itself.
    All,
    /// This many, up to and including itself (Beltagy et al. 2020, "Longformer"); at least 1.
    Window(usize),
}

impl AttentionSpan {
    /// The first token that one with `tokens` tokens up to and including itself attends to.
    fn first(self, tokens: usize) -> usize {
        match self {
            Self::All => 0,
            Self::Window(window) => tokens.saturating_sub(window.max(1)),
        }
    }
}

/// The keys and values of all layers, in blocks of [`CACHE_BLOCK_TOKENS`] tokens. Which sequence uses which block is
/// decided by the caller.
///
/// ```
/// use videosdgx_tensor::{
///     AttentionSpan, Device, Kind, KvCache, KvCacheShape, PagedSegment, Tensor, TensorError, ValueStorage,
/// };
///
/// # fn main() -> Result<(), TensorError> {
/// let shape = KvCacheShape { layers: 1, heads: 2, key_dim: 16, value: ValueStorage::Separate(16) };
/// let mut cache = KvCache::new(shape, Kind::Float, Device::Cpu)?;
/// cache.resize(4)?;
/// // Three tokens of a prompt, in block 2.
/// let prompt = [PagedSegment { start: 0, len: 3, blocks: &[2] }];
/// let random = |heads: i64| Tensor::randn([3, heads, 16], (Kind::Float, Device::Cpu));
/// cache.write(0, &random(2), Some(&random(2)), &prompt);
/// let output = cache.attention(0, &random(4), &prompt, AttentionSpan::All, 0.25);
/// assert_eq!(output.size(), [3, 4, 16]);
/// # Ok(())
/// # }
/// ```
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
    /// An empty cache (no blocks) of f32, bf16 or f16.
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

    /// The sizes that the cache was created with.
    pub fn shape(&self) -> KvCacheShape {
        self.shape
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Bytes of a token, in all layers together.
    pub fn bytes_per_token(&self) -> u64 {
        let value = if let ValueStorage::Separate(dim) = self.shape.value { dim } else { 0 };
        let elements = self.shape.layers * self.shape.heads * (self.shape.key_dim + value);
        (elements * self.kind.elt_size_in_bytes()) as u64
    }

    /// Changes the number of blocks: blocks below the new number keep their content, the memory of the others is
    /// released.
    ///
    /// # Errors
    /// [`TensorError::OutOfMemory`]; the cache is then unchanged.
    pub fn resize(&mut self, blocks: usize) -> Result<(), TensorError> {
        match &mut self.storage {
            CacheStorage::Host(store) => store.resize(blocks)?,
            CacheStorage::Device(store) => store.resize(blocks)?,
        }
        self.blocks = blocks;
        Ok(())
    }

    /// Stores the segments' keys and values at their positions.
    ///
    /// `key`: `[T, heads, key_dim]`, `value`: `[T, heads, dim]` (`None` with [`ValueStorage::KeyPrefix`]), rows in
    /// the order of the segments, f32, bf16 or f16. The last two dimensions are contiguous; rows may be parts of
    /// wider rows.
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

    /// Causal attention of the segments' queries over the tokens of their sequences up to themselves, all or the
    /// newest ones (`span`), which must be in the cache already. Neighbouring query heads share a key head.
    ///
    /// `query`: `[T, query_heads, key_dim]` f32, bf16 or f16, last two dimensions contiguous → `[T, query_heads,
    /// dim]`, contiguous, in the query's type. On the CPU the result of a row is bit-identical in every batch and
    /// chunking.
    pub fn attention(
        &self,
        layer: usize,
        query: &Tensor,
        segments: &[PagedSegment<'_>],
        span: AttentionSpan,
        scale: f64,
    ) -> Tensor {
        self.check(layer, segments);
        match &self.storage {
            CacheStorage::Host(store) => store.attention(layer, query, segments, (span, scale)),
            CacheStorage::Device(store) => store.attention(layer, query, segments, (span, scale)),
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
