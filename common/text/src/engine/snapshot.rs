//! An engine at one moment.

/// What an engine is doing and has done.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EngineSnapshot {
    /// Sequences in the steps now.
    pub running: usize,
    /// Requests waiting for a place, preempted ones included.
    pub waiting: usize,
    /// Sequences whose reader is slow.
    pub paused: usize,
    /// How many may run now (the batch-size controller's decision).
    pub max_running: usize,
    /// The KV cache.
    pub cache: CacheUsage,
    /// Tokens of prompts that were looked for in the cache.
    pub prefix_queries: u64,
    /// Of those, found.
    pub prefix_hits: u64,
    /// Tokens of prompts computed.
    pub prompt_tokens: u64,
    /// Tokens generated.
    pub generated_tokens: u64,
    /// Sequences put back to make room.
    pub preemptions: u64,
    /// Steps computed.
    pub steps: u64,
    /// Steps that failed and succeeded when tried again.
    pub recovered_steps: u64,
    /// Steps that failed twice.
    pub failed_steps: u64,
    /// Requests taken since the start.
    pub requests: u64,
    /// Requests refused since the start.
    pub refused: u64,
    /// Whether new requests are refused.
    pub draining: bool,
}

/// Blocks of the KV cache, [`videosdgx_decoder_api::BLOCK_TOKENS`] tokens each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheUsage {
    /// Blocks there are memory for.
    pub capacity: usize,
    /// Blocks there may be.
    pub limit: usize,
    /// Blocks that sequences hold.
    pub used: usize,
    /// Blocks that nobody holds and that are kept for their content.
    pub cached: usize,
    /// Bytes of a block; 0 before the model is loaded.
    pub block_bytes: u64,
}

impl CacheUsage {
    /// Share of the limit that sequences hold, 0 to 1.
    #[must_use]
    pub fn used_share(&self) -> f64 {
        if self.limit == 0 { 0.0 } else { self.used as f64 / self.limit as f64 }
    }
}
