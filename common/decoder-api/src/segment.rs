//! The input of a step.

use std::sync::Arc;

use crate::ImageInput;

/// Tokens per block of the KV cache.
pub const BLOCK_TOKENS: usize = 16;

/// Index of a block of the KV cache.
pub type BlockId = u32;

/// Consecutive tokens of one sequence that one step computes: a chunk of its prompt, or its newest token.
#[derive(Debug, Clone)]
pub struct Segment<'a> {
    /// The tokens; at least one.
    pub tokens: &'a [u32],
    /// Position of the first token in the sequence, which equals the number of tokens already in the cache.
    pub start: usize,
    /// Block table of the sequence, in order of positions; covers at least `start + tokens.len()` tokens.
    pub blocks: &'a [BlockId],
    /// All images of the sequence, in order of position.
    pub images: &'a [Arc<ImageInput>],
    /// Which logits the step returns for this segment.
    pub logits: LogitsRequest,
}

/// Which logits of a segment a step returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogitsRequest {
    /// No row: a chunk in the middle of a prompt.
    None,
    /// One row, computed from the last token.
    Last,
    /// One row per token.
    All,
}
