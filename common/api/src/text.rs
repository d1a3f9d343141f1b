//! What a text service says of itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{LoaderReport, MemoryReport, SystemReport};

/// What a checkpoint of a language model is, and what it takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TextModel {
    /// The service's name.
    pub name: String,
    /// The checkpoint's name.
    pub checkpoint: String,
    /// Architecture class as its configuration says, for example `Qwen3ForCausalLM`.
    pub architecture: String,
    /// Whether this is the small demonstration checkpoint.
    pub demonstration: bool,
    /// `cpu` or `cuda:0`.
    pub device: String,
    /// `bf16`, `f16` or `f32`.
    pub dtype: String,
    /// Weight format, for example `none`, `fp8`, `q4_1`.
    pub quantization: String,
    /// Parameters of the model.
    pub parameters: u64,
    /// Most tokens of prompt and answer together.
    pub max_context: u64,
    /// Whether it takes pictures.
    pub vision: bool,
}

/// Answer of `GET /info`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TextInfo {
    /// The service's name.
    pub name: String,
    /// Program version.
    pub version: String,
    /// Name of the checkpoint; absent when it is missing or broken.
    pub checkpoint: Option<String>,
    /// Machine.
    pub system: SystemReport,
    /// The checkpoint; absent when it is missing or broken.
    pub model: Option<TextModel>,
    /// Why `model` is absent.
    pub model_error: Option<String>,
    /// The loader.
    pub loader: LoaderReport,
    /// What is being generated.
    pub engine: EngineReport,
}

/// What the engine is doing and has done since the process started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EngineReport {
    /// Sequences that are being computed.
    pub running: u64,
    /// Requests that wait for a place.
    pub waiting: u64,
    /// Sequences whose reader is slow.
    pub paused: u64,
    /// How many sequences may run together now: the batch-size controller's decision.
    pub max_running: u64,
    /// Most requests that wait before new ones are refused.
    pub queue_capacity: u64,
    /// Share of the KV cache that sequences hold, 0 to 1.
    pub kv_cache_usage: f64,
    /// Bytes of the KV cache that there is memory for.
    pub kv_cache_bytes: u64,
    /// Most bytes that it may have.
    pub kv_cache_limit_bytes: u64,
    /// Share of prompt tokens that were found in the cache, 0 to 1.
    pub prefix_hit_rate: f64,
    /// Prompt tokens computed.
    pub prompt_tokens: u64,
    /// Tokens generated.
    pub generated_tokens: u64,
    /// Sequences put back to make room for others.
    pub preemptions: u64,
    /// Steps computed.
    pub steps: u64,
    /// Steps that failed and succeeded when tried again.
    pub recovered_steps: u64,
    /// Steps that failed twice.
    pub failed_steps: u64,
    /// Requests taken.
    pub requests: u64,
    /// Requests refused.
    pub refused: u64,
    /// Streams kept for a client that lost its connection.
    pub kept_streams: u64,
    /// Whether the service is shutting down.
    pub draining: bool,
}

/// `GET /metrics` with `Accept: application/json`: a generation is an inference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TextMetricsReport {
    /// Generations that came to an end: `successful + failed`.
    pub total_inferences: u64,
    /// Ended by themselves or at their length.
    pub successful: u64,
    /// Ended by an error or a deadline.
    pub failed: u64,
    /// Ended because the client left or cancelled.
    pub cancelled: u64,
    /// `successful / total_inferences`, 0 to 1; absent before the first.
    pub success_rate: Option<f64>,
    /// Of those remembered, seconds from submission to the end; absent before the first.
    pub avg_duration_seconds: Option<f64>,
    /// See `avg_duration_seconds`.
    pub min_duration_seconds: Option<f64>,
    /// See `avg_duration_seconds`.
    pub max_duration_seconds: Option<f64>,
    /// Average length of the prompts, tokens; absent before the first.
    pub avg_prompt_tokens: Option<f64>,
    /// The last ten that ended, newest first.
    pub last_10: Vec<GenerationRecord>,
    /// Requests that wait.
    pub queue_size: u64,
    /// The engine.
    pub engine: EngineReport,
    /// Memory of now.
    pub memory: MemoryReport,
    /// The model's state, last use and idle timer.
    pub model: LoaderReport,
}

/// One generation that ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GenerationRecord {
    /// `stop`, `length`, `cancelled`, `deadline` or `error`.
    pub reason: String,
    /// Seconds from submission to the end.
    pub duration_seconds: f64,
    /// Seconds from submission to the first token.
    pub time_to_first_token_seconds: Option<f64>,
    /// Output tokens a second of generation.
    pub tokens_per_second: f64,
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens of the output.
    pub completion_tokens: u64,
    /// When it was submitted, unix seconds.
    pub submitted_at: f64,
}
