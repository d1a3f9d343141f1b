//! Configuration of the engine.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use videosdgx_model::{MemoryProbe, SystemMemory};

use crate::controllers::{BatchSizeConfig, MemoryPressureConfig};

/// Configuration of a [`TextEngine`](crate::TextEngine).
///
/// ```
/// use videosdgx_text::{EngineConfig, KvCacheSize};
///
/// let config = EngineConfig { kv_cache: KvCacheSize::Bytes(2 << 30), ..EngineConfig::new("qwen3-4b", 32_768) };
/// assert_eq!((config.queue_capacity, config.prompt_chunk), (256, 512));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct EngineConfig {
    /// Name of the model, for logs and thread names.
    pub model: String,
    /// [`Decoder::checkpoint`](videosdgx_decoder_api::Decoder::checkpoint) of the models that this engine uses; sequences that
    /// meet another one are ended. Default: 0.
    pub checkpoint: u64,
    /// Maximum length of a sequence in tokens, prompt and output together; the loaded model may lower it.
    pub max_context: usize,
    /// How many sequences run at the same time.
    pub batch: BatchSizeConfig,
    /// Maximum number of queued requests (default: 256); further ones are refused. One principal may take three times as many places
    /// as are free, alone three quarters of the queue.
    pub queue_capacity: usize,
    /// Capacity of a stream's event buffer (default: 100); the sequence pauses while the buffer is full.
    pub buffer_size: usize,
    /// Maximum number of prompt tokens in one step (default: 512); lower while other streams are decoded.
    pub prompt_chunk: usize,
    /// Maximum duration of a step while streams are decoded, as a multiple of the median step without prompts (default: 2).
    pub prompt_slowdown: f64,
    /// Maximum size of the KV cache.
    pub kv_cache: KvCacheSize,
    /// Waiting time that counts as much as one level of priority (default: 2 s).
    pub ageing: Duration,
    /// Deadline of requests without one (default: none).
    pub default_deadline: Option<Duration>,
    /// A stream whose reader reads nothing for this long is ended (default: 30 s).
    pub slow_reader_limit: Duration,
    /// Which requests share cached prefixes (default: those of the same principal).
    pub prefix_sharing: PrefixSharing,
    /// Thresholds of the memory monitor.
    pub memory_pressure: MemoryPressureConfig,
}

impl EngineConfig {
    /// Default configuration for a model with this context length.
    #[must_use]
    pub fn new(model: impl Into<String>, max_context: usize) -> Self {
        Self {
            model: model.into(),
            checkpoint: 0,
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
            prefix_sharing: PrefixSharing::default(),
            memory_pressure: MemoryPressureConfig::default(),
        }
    }
}

/// Maximum size of the KV cache. The cache starts small and grows on demand.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum KvCacheSize {
    /// Fixed number of bytes.
    Bytes(u64),
    /// Share of the memory that is free once the model is loaded, at most `max_bytes`.
    ShareOfFree {
        /// The share, 0 to 1.
        share: f64,
        /// Upper limit in bytes.
        max_bytes: u64,
    },
}

impl Default for KvCacheSize {
    fn default() -> Self {
        Self::ShareOfFree { share: 0.3, max_bytes: 16 << 30 }
    }
}

/// Which requests share cached prompt prefixes. A hit is observable, as `cached_tokens` and as a shorter time to the first token: whoever
/// shares prefixes with others can find out, by guessing, what their prompts begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PrefixSharing {
    /// All requests, so that a system prompt is computed once for all principals.
    All,
    /// Requests of the same principal.
    #[default]
    PerPrincipal,
    /// None.
    Off,
}

/// Options of a single stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamOptions {
    /// Overrides [`EngineConfig::buffer_size`]; at least 1.
    pub buffer_size: Option<usize>,
}

/// Access of the engine to the machine and the process around it.
#[derive(Clone)]
pub struct EngineHooks {
    /// Source of memory readings.
    pub memory: Arc<dyn MemoryProbe>,
    /// Called on the inference thread at [`MemoryPressure::Extreme`](crate::controllers::MemoryPressure::Extreme); should request
    /// the unloading of idle models without waiting for it.
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
