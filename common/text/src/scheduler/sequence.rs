//! The scheduler's view of one sequence.

use std::sync::Arc;
use std::time::Duration;

use super::SequenceSpec;
use super::shares::{AccountId, MAX_LEVEL, Phase};
use crate::cache::{BlockHash, block_hash, root_hash};
use videosdgx_decoder_api::{BLOCK_TOKENS, BlockId, ImageInput};

/// Identifies a sequence within one engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SeqId(pub(crate) u64);

/// Scheduling status of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SequenceStatus {
    Waiting,
    Running,
    Paused { since: Duration },
}

impl SequenceStatus {
    pub(super) fn phase(self) -> Phase {
        match self {
            Self::Waiting => Phase::Waiting,
            Self::Running => Phase::Running,
            Self::Paused { .. } => Phase::Paused,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Sequence {
    /// The principal's.
    pub(super) account: AccountId,
    pub(super) priority: u8,
    /// The priority, raised once if the principal had nothing running: sets the cost of its tokens.
    pub(super) level: u8,
    /// The aged priority with which it was first admitted, in microseconds of ageing.
    pub(super) aged: i64,
    pub(super) deadline: Option<Duration>,
    arrived: Duration,
    /// Arrival time in microseconds minus the bonus of the priority; the lowest is first.
    pub(super) rank: i64,
    pub(super) status: SequenceStatus,
    /// Prompt and output tokens.
    pub(super) tokens: Vec<u32>,
    pub(super) prompt_tokens: usize,
    pub(super) images: Vec<Arc<ImageInput>>,
    /// Maximum length: prompt and output tokens.
    pub(super) max_len: usize,
    /// Number of leading tokens that are in the cache.
    pub(super) computed: usize,
    pub(super) blocks: Vec<BlockId>,
    /// Hashes of the leading full blocks, computed on demand.
    hashes: Vec<BlockHash>,
    root: BlockHash,
    /// Number of leading blocks that are published in the cache or were shared from it.
    pub(super) published: usize,
    /// Prompt tokens that were found in the cache.
    pub(super) cached_tokens: usize,
    pub(super) admitted: bool,
    /// Number of prompt tokens that have been in the cache at any time, so that recomputation is not counted twice.
    counted: usize,
    /// Number of crashed steps with this sequence since its last successful step.
    pub(super) crashes: u32,
}

impl Sequence {
    pub(super) fn new(spec: SequenceSpec, account: AccountId, now: Duration, ageing: Duration) -> Self {
        Self {
            rank: micros(now).saturating_sub(micros(ageing).saturating_mul(i64::from(spec.priority))),
            account,
            priority: spec.priority,
            level: spec.priority.min(MAX_LEVEL),
            aged: 0,
            arrived: now,
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
            counted: 0,
            crashes: 0,
        }
    }

    /// The priority, with one level for each `ageing` that it and its principal have waited.
    pub(super) fn level_at(&self, now: Duration, starved_since: Option<Duration>, ageing: Duration) -> u8 {
        let Some(since) = starved_since else { return self.level };
        let waited = now.saturating_sub(since.max(self.arrived)).as_micros();
        let levels = waited.checked_div(ageing.as_micros()).unwrap_or(0);
        let raised = u128::from(self.priority).saturating_add(levels).min(u128::from(MAX_LEVEL));
        self.level.max(u8::try_from(raised).unwrap_or(MAX_LEVEL))
    }

    /// The aged priority, in microseconds of ageing.
    pub(super) fn aged_at(&self, now: Duration) -> i64 {
        micros(now).saturating_sub(self.rank)
    }

    /// Number of tokens that are not in the cache; at least one, because the newest token never is.
    pub(super) fn remaining(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Number of prompt tokens that entered the cache for the first time since the last call.
    pub(super) fn take_newly_cached(&mut self) -> usize {
        let now = self.computed.min(self.prompt_tokens);
        let new = now.saturating_sub(self.counted);
        self.counted += new;
        new
    }

    /// Number of prompt tokens that were not found in the cache.
    pub(super) fn uncached_prompt_tokens(&self) -> usize {
        self.prompt_tokens.saturating_sub(self.cached_tokens)
    }

    /// Number of blocks for all tokens.
    pub(super) fn blocks_needed(&self) -> usize {
        self.tokens.len().div_ceil(BLOCK_TOKENS)
    }

    /// Hash of block `index`; `None` when it is not full yet.
    pub(super) fn hash(&mut self, index: usize) -> Option<BlockHash> {
        while self.hashes.len() <= index {
            let start = self.hashes.len() * BLOCK_TOKENS;
            let tokens = self.tokens.get(start..start + BLOCK_TOKENS)?;
            let before = self.hashes.last().copied().unwrap_or(self.root);
            self.hashes.push(block_hash(before, tokens, start, &self.images));
        }
        Some(self.hashes[index])
    }

    /// Number of leading blocks that it may share from the cache: full ones, without the last token, which must be computed to
    /// get its logits.
    pub(super) fn shareable_blocks(&self) -> usize {
        (self.tokens.len() - 1) / BLOCK_TOKENS
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX / 16)
}
