//! State of an engine at one moment.

/// Current state and counters of an engine; counters start with the engine.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EngineSnapshot {
    /// Sequences that take part in steps.
    pub running: usize,
    /// Requests waiting for a slot, preempted sequences included.
    pub waiting: usize,
    /// Sequences paused because their reader is slow.
    pub paused: usize,
    /// Maximum number of running sequences at the moment, set by the batch-size controller.
    pub max_running: usize,
    /// Usage of the KV cache.
    pub cache: CacheUsage,
    /// Prompt tokens looked up in the cache.
    pub prefix_queries: u64,
    /// Prompt tokens found in the cache.
    pub prefix_hits: u64,
    /// Prompt tokens computed or found in the cache.
    pub prompt_tokens: u64,
    /// Output tokens generated.
    pub generated_tokens: u64,
    /// Preemptions of sequences in favour of others.
    pub preemptions: u64,
    /// Steps computed.
    pub steps: u64,
    /// Steps that failed and succeeded on a retry.
    pub recovered_steps: u64,
    /// Steps that failed twice.
    pub failed_steps: u64,
    /// Requests accepted.
    pub requests: u64,
    /// Requests refused because the queue was full.
    pub refused: u64,
    /// Whether the engine is shutting down and refuses new requests.
    pub draining: bool,
}

/// Usage of the KV cache in blocks of [`BLOCK_TOKENS`](videosdgx_decoder_api::BLOCK_TOKENS) tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheUsage {
    /// Allocated blocks.
    pub capacity: usize,
    /// Maximum number of blocks.
    pub limit: usize,
    /// Blocks held by sequences.
    pub used: usize,
    /// Blocks held by no sequence whose content is kept for later requests.
    pub cached: usize,
    /// Bytes per block; 0 before the model is loaded.
    pub block_bytes: u64,
}

impl CacheUsage {
    /// Blocks held by sequences as a share of the limit, 0 to 1.
    #[must_use]
    pub fn used_share(&self) -> f64 {
        if self.limit == 0 { 0.0 } else { self.used as f64 / self.limit as f64 }
    }
}
