//! One sequence.

use std::sync::Arc;
use std::time::Duration;

use super::SequenceSpec;
use crate::cache::{BlockHash, block_hash, root_hash};
use videosdgx_decoder_api::{BLOCK_TOKENS, BlockId, ImageInput};

/// A sequence within one engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SeqId(pub(crate) u64);

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SequenceStatus {
    Waiting,
    Running,
    Paused { since: Duration },
}

#[derive(Debug, Clone)]
pub(super) struct Sequence {
    pub(super) principal: String,
    pub(super) priority: u8,
    pub(super) deadline: Option<Duration>,
    /// Arrival moved earlier by priority, microseconds; lower goes first.
    pub(super) rank: i64,
    pub(super) status: SequenceStatus,
    /// Prompt and output.
    pub(super) tokens: Vec<u32>,
    pub(super) prompt_tokens: usize,
    pub(super) images: Vec<Arc<ImageInput>>,
    /// It ends with so many tokens.
    pub(super) max_len: usize,
    /// So many of its tokens are in the cache.
    pub(super) computed: usize,
    pub(super) blocks: Vec<BlockId>,
    /// Of the full blocks of `tokens`, as far as they were asked for.
    hashes: Vec<BlockHash>,
    root: BlockHash,
    /// So many of its blocks are named, or were there already.
    pub(super) published: usize,
    /// Tokens of the prompt found in the cache at its first admission.
    pub(super) cached_tokens: usize,
    pub(super) admitted: bool,
    /// Tokens of the prompt that were ever in the cache.
    known: usize,
    /// Steps with it that took the whole process down.
    pub(super) crashes: u32,
}

impl Sequence {
    pub(super) fn new(spec: SequenceSpec, now: Duration, ageing: Duration) -> Self {
        let micros = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX / 16);
        Self {
            rank: micros(now).saturating_sub(micros(ageing).saturating_mul(i64::from(spec.priority))),
            principal: spec.principal,
            priority: spec.priority,
            deadline: spec.deadline,
            status: SequenceStatus::Waiting,
            prompt_tokens: spec.tokens.len(),
            max_len: spec.tokens.len() + spec.max_tokens.max(1),
            tokens: spec.tokens,
            images: spec.images,
            computed: 0,
            blocks: Vec::new(),
            hashes: Vec::new(),
            root: root_hash(&spec.salt),
            published: 0,
            cached_tokens: 0,
            admitted: false,
            known: 0,
            crashes: 0,
        }
    }

    /// Tokens that are not in the cache yet; at least one, since the newest never is.
    pub(super) fn remaining(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Tokens of the prompt that are in the cache for the first time since this was last asked.
    pub(super) fn newly_known(&mut self) -> usize {
        let now = self.computed.min(self.prompt_tokens);
        let new = now.saturating_sub(self.known);
        self.known += new;
        new
    }

    /// Tokens of the prompt that were not found in the cache.
    pub(super) fn newly_computed(&self) -> usize {
        self.prompt_tokens.saturating_sub(self.cached_tokens)
    }

    /// Blocks that all its tokens need.
    pub(super) fn blocks_needed(&self) -> usize {
        self.tokens.len().div_ceil(BLOCK_TOKENS)
    }

    /// The hash of its `index`-th block; `None` when that is not full yet.
    pub(super) fn hash(&mut self, index: usize) -> Option<BlockHash> {
        while self.hashes.len() <= index {
            let start = self.hashes.len() * BLOCK_TOKENS;
            let tokens = self.tokens.get(start..start + BLOCK_TOKENS)?;
            let before = self.hashes.last().copied().unwrap_or(self.root);
            self.hashes.push(block_hash(before, tokens, start, &self.images));
        }
        Some(self.hashes[index])
    }

    /// Blocks that others may share with it: full ones, but never all its tokens, since the last must be computed to be
    /// continued.
    pub(super) fn shareable(&self) -> usize {
        (self.tokens.len() - 1) / BLOCK_TOKENS
    }
}
