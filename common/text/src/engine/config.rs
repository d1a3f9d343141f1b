//! Settings of an engine.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use videosdgx_model::{MemoryProbe, SystemMemory};

use crate::controllers::{BatchSizeConfig, MemoryPressureConfig};

/// Settings of an [`crate::TextEngine`].
#[derive(Debug, Clone, PartialEq)]
pub struct EngineConfig {
    /// The model's name, for logs and names of threads.
    pub model: String,
    /// Most tokens of a sequence, prompt and output together; the loaded model may lower it.
    pub max_context: usize,
    /// How many sequences run at once.
    pub batch: BatchSizeConfig,
    /// Most requests that wait for a place; one more is refused.
    pub queue_capacity: usize,
    /// Events a stream holds for its reader; a sequence pauses when they are not read.
    pub buffer_size: usize,
    /// Most tokens of prompts in one step; less while other streams are being decoded.
    pub prompt_chunk: usize,
    /// Most that a step may take, as a multiple of the median step without prompts, while streams are being decoded.
    pub prompt_slowdown: f64,
    /// Size of the KV cache.
    pub kv_cache: KvCacheSize,
    /// So long a wait is worth one step of priority.
    pub ageing: Duration,
    /// Deadline of requests that name none.
    pub default_deadline: Option<Duration>,
    /// A stream whose reader takes nothing for so long is ended.
    pub slow_reader_limit: Duration,
    /// Whose prefixes are shared.
    pub prefix_sharing: PrefixSharing,
    /// When memory counts as short.
    pub memory_pressure: MemoryPressureConfig,
}

impl EngineConfig {
    /// The defaults for a model of this context.
    #[must_use]
    pub fn new(model: impl Into<String>, max_context: usize) -> Self {
        Self {
            model: model.into(),
            max_context,
            batch: BatchSizeConfig::default(),
            queue_capacity: 256,
            buffer_size: 100,
            prompt_chunk: 512,
            prompt_slowdown: 2.0,
            kv_cache: KvCacheSize::default(),
            ageing: Duration::from_secs(2),
            default_deadline: None,
            slow_reader_limit: Duration::from_secs(30),
            prefix_sharing: PrefixSharing::Everybody,
            memory_pressure: MemoryPressureConfig::default(),
        }
    }
}

/// How large the KV cache may become. It begins small and grows as it is needed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum KvCacheSize {
    /// So many bytes.
    Bytes(u64),
    /// A share of the memory that is free when the model was loaded, 0 to 1; never more than `at_most` bytes.
    Free {
        /// The share.
        share: f64,
        /// Bytes.
        at_most: u64,
    },
}

impl Default for KvCacheSize {
    fn default() -> Self {
        Self::Free { share: 0.3, at_most: 16 << 30 }
    }
}

/// Who may find whose prompts in the cache. Finding is visible as a shorter time to the first token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PrefixSharing {
    /// All requests share, so that a system prompt is computed once.
    #[default]
    Everybody,
    /// Only requests of one principal share.
    Principal,
    /// Nothing is shared.
    Nobody,
}

/// What one stream does differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamOptions {
    /// Instead of [`EngineConfig::buffer_size`]; at least 1.
    pub buffer_size: Option<usize>,
}

/// What the engine asks of the machine around it.
#[derive(Clone)]
pub struct EngineHooks {
    /// Where the memory is read from.
    pub memory: Arc<dyn MemoryProbe>,
    /// Called on the inference thread when memory is extremely short: unload what is idle elsewhere, without waiting for it.
    pub unload_idle: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl Default for EngineHooks {
    fn default() -> Self {
        Self { memory: Arc::new(SystemMemory::new()), unload_idle: None }
    }
}

impl fmt::Debug for EngineHooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineHooks")
            .field("unload_idle", &self.unload_idle.is_some())
            .finish_non_exhaustive()
    }
}
