//! What a text service says of itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{LoaderReport, MemoryReport, SystemReport};

/// Description of a checkpoint of a language model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TextModelDescription {
    /// The service's name.
    pub name: String,
    /// The checkpoint's name.
    pub checkpoint: String,
    /// Architecture class in the checkpoint's configuration, for example `Qwen3ForCausalLM`.
    pub architecture: String,
    /// Whether this is the small demonstration checkpoint.
    pub demonstration: bool,
    /// `cpu` or `cuda:0`.
    pub device: String,
    /// Why the model computes there, for example `libtorch has no CUDA` or `NVIDIA GB10, capability 12.1`.
    #[serde(default)]
    pub device_reason: String,
    /// `bf16`, `f16` or `f32`.
    pub dtype: String,
    /// Weight format, for example `none`, `fp8`, `q4_1`.
    pub quantization: String,
    /// Parameters of the model.
    pub parameters: u64,
    /// Largest number of tokens of prompt and answer together.
    pub max_context: u64,
    /// Whether it accepts images.
    pub vision: bool,
}

/// Answer of `GET /info`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TextInfo {
    /// The service's name.
    pub name: String,
    /// Program version.
    pub version: String,
    /// Name of the checkpoint; absent if it is missing or invalid.
    pub checkpoint: Option<String>,
    /// The machine that the service runs on.
    pub system: SystemReport,
    /// Description of the checkpoint; absent if it is missing or invalid.
    pub model: Option<TextModelDescription>,
    /// Why `model` is absent.
    pub model_error: Option<String>,
    /// How the checkpoint calls tools; absent if it has no chat template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<ToolCallForm>,
    /// State of the model loader.
    pub loader: LoaderReport,
    /// State of the text engine.
    pub engine: EngineReport,
}

/// How a checkpoint calls tools.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ToolCallForm {
    /// Form of the calls in the model's output: `hermes`, `qwen_xml` or `glm`.
    pub form: String,
    /// Whether the form is a generic one, because the checkpoint's template has none. Small models may not follow it unless
    /// `tool_choice` is `required`.
    pub generic: bool,
}

/// State of the text engine and counts since the process started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EngineReport {
    /// Running sequences.
    pub running: u64,
    /// Waiting requests.
    pub waiting: u64,
    /// Sequences paused because their client reads slowly.
    pub paused: u64,
    /// Largest number of sequences that may run now, set by the batch-size controller.
    pub max_running: u64,
    /// Largest number of waiting requests; more are refused.
    pub queue_capacity: u64,
    /// Fraction of the KV cache in use by sequences, 0 to 1.
    pub kv_cache_usage: f64,
    /// Bytes allocated for the KV cache.
    pub kv_cache_bytes: u64,
    /// Largest size of the KV cache in bytes.
    pub kv_cache_limit_bytes: u64,
    /// Fraction of prompt tokens found in the prefix cache, 0 to 1.
    pub prefix_hit_rate: f64,
    /// Prompt tokens computed.
    pub prompt_tokens: u64,
    /// Tokens generated.
    pub generated_tokens: u64,
    /// Preemptions: sequences returned to the queue to free cache blocks.
    pub preemptions: u64,
    /// Steps computed.
    pub steps: u64,
    /// Steps that failed and succeeded on retry.
    pub recovered_steps: u64,
    /// Steps that failed twice.
    pub failed_steps: u64,
    /// Accepted requests.
    pub requests: u64,
    /// Refused requests.
    pub refused: u64,
    /// Streams that a client may still resume after losing its connection.
    pub kept_streams: u64,
    /// Whether the service is shutting down.
    pub draining: bool,
}

/// Answer of `GET /metrics` with `Accept: application/json`; one generation is one inference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TextMetricsReport {
    /// Generations that ran to an end: `successful + failed`.
    pub total_inferences: u64,
    /// Generations that ended by a stop condition or their length limit.
    pub successful: u64,
    /// Generations that ended by an error or deadline.
    pub failed: u64,
    /// Generations cancelled by the client or its disconnection.
    pub cancelled: u64,
    /// `successful / total_inferences`, 0 to 1; absent before the first.
    pub success_rate: Option<f64>,
    /// Average seconds from submission to the end of the stored generations; absent before the first.
    pub avg_duration_seconds: Option<f64>,
    /// Shortest, see `avg_duration_seconds`.
    pub min_duration_seconds: Option<f64>,
    /// Longest, see `avg_duration_seconds`.
    pub max_duration_seconds: Option<f64>,
    /// Average prompt length in tokens; absent before the first.
    pub avg_prompt_tokens: Option<f64>,
    /// The ten that ended last, newest first.
    pub last_10: Vec<GenerationRecord>,
    /// Waiting requests.
    pub queue_size: u64,
    /// State of the text engine.
    pub engine: EngineReport,
    /// Present memory use.
    pub memory: MemoryReport,
    /// State, last use and idle timer of the model.
    pub model: LoaderReport,
}

/// A generation that has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GenerationRecord {
    /// `stop`, `length`, `cancelled`, `deadline` or `error`.
    pub reason: String,
    /// Seconds from submission to the end.
    pub duration_seconds: f64,
    /// Seconds from submission to the first token.
    pub time_to_first_token_seconds: Option<f64>,
    /// Output tokens per second of generation.
    pub tokens_per_second: f64,
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens of the output.
    pub completion_tokens: u64,
    /// Time of submission in Unix seconds.
    pub submitted_at: f64,
}
