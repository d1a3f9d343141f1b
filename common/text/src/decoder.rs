//! The wall between scheduling and arithmetic: what the engine asks of a model.

use std::sync::Arc;

/// Tokens in one block of the KV cache.
pub const BLOCK_TOKENS: usize = 16;

/// Number of a block of the KV cache.
pub type BlockId = u32;

/// A loaded language model with its KV cache, computing many sequences in one step. Only the inference thread sees it.
///
/// The cache is `BLOCK_TOKENS` tokens a block; who holds which block is the engine's business (the decoder only reads and
/// writes where a segment's block table says).
pub trait Decoder: Send + 'static {
    /// What does not change while it is loaded.
    fn shape(&self) -> DecoderShape;

    /// Makes the cache `blocks` large. The content of blocks that stay is kept; memory of dropped blocks is given back.
    ///
    /// # Errors
    /// [`DecoderError::OutOfMemory`]; the cache is then as before.
    fn resize_cache(&mut self, blocks: usize) -> Result<(), DecoderError>;

    /// Computes all segments together, writes their keys and values into the cache, and gives the wanted logits.
    ///
    /// Each sequence's numbers do not depend on what else is in the batch, nor on how its prompt was cut into chunks, beyond
    /// rounding. Rows come in the order of the segments (`Wanted::All`: several rows of one segment in order).
    ///
    /// # Errors
    /// The cache content of the segments' new positions is undefined then; positions before them are untouched, so the same
    /// step may be tried again.
    fn step(&mut self, segments: &[Segment<'_>]) -> Result<Logits, DecoderError>;
}

/// Facts of a loaded model.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderShape {
    /// Rows of logits have so many values; ids at or above the tokenizer's size are padding and masked by the sampler.
    pub vocab: usize,
    /// Most tokens of a sequence, prompt and output together.
    pub max_context: usize,
    /// Bytes of the cache a token, all layers together.
    pub cache_bytes_per_token: u64,
    /// Whether it takes pictures.
    pub vision: bool,
}

/// Consecutive tokens of one sequence, to be computed in one step: a chunk of its prompt, or its newest token.
#[derive(Debug, Clone)]
pub struct Segment<'a> {
    /// At least one token.
    pub tokens: &'a [u32],
    /// Position of the first of them: so many tokens of the sequence are in the cache already.
    pub start: usize,
    /// Blocks of the sequence in order; they hold at least `start + tokens.len()` tokens.
    pub blocks: &'a [BlockId],
    /// All pictures of the sequence, by position.
    pub images: &'a [Arc<ImageInput>],
    /// Whose logits are wanted.
    pub wanted: Wanted,
}

/// Which logits of a segment are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// None: a chunk in the middle of a prompt.
    None,
    /// Those after the last token.
    Last,
    /// Those after each token.
    All,
}

/// A picture, cut into patches as the model's vision tower takes it.
#[derive(Clone)]
pub struct ImageInput {
    /// Position in the sequence of the first of its placeholder tokens.
    pub position: usize,
    /// How many placeholder tokens it has: `t · h · w / merge²`.
    pub tokens: usize,
    /// Patches in time, height and width.
    pub grid: [usize; 3],
    /// `[t · h · w, channels · temporal patch · patch · patch]`, normalised, in the merge-block order of the tower.
    pub patches: Vec<f32>,
    /// Names the content, for sharing of prefixes and of computed features.
    pub digest: [u8; 32],
}

impl std::fmt::Debug for ImageInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageInput")
            .field("position", &self.position)
            .field("tokens", &self.tokens)
            .field("grid", &self.grid)
            .finish_non_exhaustive()
    }
}

/// Rows of logits, one a wanted position.
#[derive(Debug, Clone, Default)]
pub struct Logits {
    vocab: usize,
    values: Vec<f32>,
}

impl Logits {
    /// `values` holds whole rows of `vocab` values.
    #[must_use]
    pub fn new(vocab: usize, values: Vec<f32>) -> Self {
        debug_assert!(vocab > 0 && values.len().is_multiple_of(vocab));
        Self { vocab, values }
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.values.len().checked_div(self.vocab).unwrap_or(0)
    }

    /// Row `index`, to be changed in place by the sampler.
    pub fn row_mut(&mut self, index: usize) -> &mut [f32] {
        &mut self.values[index * self.vocab..(index + 1) * self.vocab]
    }

    /// Row `index`.
    #[must_use]
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.vocab..(index + 1) * self.vocab]
    }
}

/// Why a step failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecoderError {
    /// The allocator or the device refused.
    #[error("out of memory: {0}")]
    OutOfMemory(String),
    /// The device or a library failed.
    #[error("{0}")]
    Failed(String),
}
