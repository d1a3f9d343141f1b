//! The trait that a language model implements.

use crate::{DecoderError, Logits, Segment};

/// A loaded language model with its KV cache; one call of [`Decoder::step`] computes many sequences. Only the inference thread
/// has access to it.
///
/// The cache consists of blocks of [`BLOCK_TOKENS`](crate::BLOCK_TOKENS) tokens. The caller decides which sequence owns which
/// block; the decoder only reads and writes the blocks in each segment's block table.
pub trait Decoder: Send + 'static {
    /// Properties of the model that do not change while it is loaded.
    fn shape(&self) -> DecoderShape;

    /// Identifies the state of the checkpoint that the weights were loaded from. An engine that was started for another one (with
    /// its tokenizer and template) does not use this model. 0: not identified.
    fn checkpoint(&self) -> u64 {
        0
    }

    /// Resizes the cache to `blocks` blocks. Blocks below the new size keep their content; the memory of the others is freed.
    ///
    /// # Errors
    /// [`DecoderError::OutOfMemory`]; the cache is then unchanged.
    fn resize_cache(&mut self, blocks: usize) -> Result<(), DecoderError>;

    /// Computes all segments in one forward pass, writes their keys and values into the cache, and returns the requested logits.
    ///
    /// The result for a sequence does not depend on the other segments of the batch, nor on how its prompt was split into
    /// chunks, except for rounding. Rows are in the order of the segments ([`LogitsRequest::All`](crate::LogitsRequest::All):
    /// one row per token, in order).
    ///
    /// # Errors
    /// The content of the cache at the segments' own positions is then undefined. Earlier positions are unchanged, so the
    /// caller may retry the same step.
    fn step(&mut self, segments: &[Segment<'_>]) -> Result<Logits, DecoderError>;
}

/// Properties of a loaded model.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderShape {
    /// Length of a row of logits. Ids at or above the tokenizer's vocabulary are padding; the sampler masks them.
    pub vocab: usize,
    /// Maximum length of a sequence in tokens: prompt and output together.
    pub max_context: usize,
    /// Bytes of KV cache per token, summed over all layers.
    pub cache_bytes_per_token: u64,
    /// Whether the model accepts images.
    pub vision: bool,
}
