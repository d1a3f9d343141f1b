//! What a service says of itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{OutputFormat, Resolution, SchedulerName};

/// Answer of `GET /`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServiceRoot {
    /// The service's name.
    pub name: String,
    /// Program version.
    pub version: String,
    /// The checkpoint it serves, `demo-shapes` when no other is configured; absent when it is missing or broken.
    pub checkpoint: Option<String>,
    /// What can be called.
    pub endpoints: Vec<Endpoint>,
}

/// One line of `GET /`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Endpoint {
    /// `GET`, `POST`, `DELETE`.
    pub method: String,
    /// Path template.
    pub path: String,
    /// One sentence.
    pub description: String,
}

/// Answer of `GET /health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// Always `ok`: the process answers.
    pub status: String,
}

/// Answer of `GET /ready` (200, or 503 when `ready` is false).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    /// Whether the model is in memory and jobs are taken.
    pub ready: bool,
    /// Why not.
    pub reason: Option<String>,
    /// Whether a job would be accepted now (it loads the model).
    pub accepting_jobs: bool,
    /// The loader.
    pub loader: LoaderReport,
}

/// Answer of `GET /info`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Info {
    /// The service's name.
    pub name: String,
    /// Program version.
    pub version: String,
    /// Name of the checkpoint; absent when it is missing or broken.
    pub checkpoint: Option<String>,
    /// Machine.
    pub system: SystemReport,
    /// The checkpoint's defaults and limits; absent when it is missing or broken.
    pub model: Option<ModelDescription>,
    /// Why `model` is absent.
    pub model_error: Option<String>,
    /// The loader.
    pub loader: LoaderReport,
    /// The queue.
    pub queue: QueueStatus,
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SystemReport {
    /// Processor's name.
    pub cpu: String,
    /// Logical processors.
    pub cpu_count: u32,
    /// Memory.
    pub memory: MemoryReport,
    /// GPUs that the driver names; empty without one.
    pub gpus: Vec<Gpu>,
}

/// One GPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Gpu {
    /// For example `NVIDIA GB10`.
    pub name: String,
    /// True when it shares the host's memory (then the memory figures are the host's).
    pub unified_memory: bool,
    /// Bytes; absent on unified memory.
    pub memory_total_bytes: Option<u64>,
    /// Bytes; absent on unified memory.
    pub memory_used_bytes: Option<u64>,
    /// Percent.
    pub utilization_percent: Option<u32>,
    /// Degrees Celsius.
    pub temperature_celsius: Option<u32>,
}

/// Memory of host and process, GB = 10⁹ bytes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MemoryReport {
    /// Resident memory of this process.
    pub allocated_gb: f64,
    /// What new programs could take (`MemAvailable`, or what the container's limit leaves).
    pub free_gb: f64,
    /// All.
    pub total_gb: f64,
}

/// States of the lazy loader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LoaderState {
    /// Nothing in memory.
    Unloaded,
    /// On the way.
    Loading,
    /// In memory.
    Loaded,
    /// On the way out.
    Unloading,
    /// The last load failed; the next use tries again.
    Failed,
}

/// The lazy loader.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LoaderReport {
    /// Its state.
    pub state: LoaderState,
    /// Why the last load failed.
    pub error: Option<String>,
    /// Stable code of that failure.
    pub error_code: Option<String>,
    /// Seconds the newest load took.
    pub load_seconds: Option<f64>,
    /// Seconds since the model was last used.
    pub idle_seconds: Option<f64>,
    /// Jobs that use it now.
    pub in_use: u32,
    /// Idle minutes after which it is unloaded; 0 = never.
    pub auto_unload_minutes: f64,
    /// Seconds until then.
    pub unloads_in_seconds: Option<f64>,
    /// How often it has been loaded since the process started.
    pub loads: u64,
}

/// Answer of `POST /unload`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Freed {
    /// `unloaded`.
    pub status: String,
    /// The service's name.
    pub model_name: String,
    /// Resident memory before less after, not below 0.
    pub memory_freed_gb: f64,
    /// Afterwards.
    pub memory_after: MemoryReport,
}

/// Answer of `GET /queue/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QueueStatus {
    /// Jobs waiting.
    pub queued: u64,
    /// Jobs being made.
    pub processing: u64,
    /// Ended well, of those still kept.
    pub completed: u64,
    /// Ended badly, of those still kept.
    pub failed: u64,
    /// Cancelled, of those still kept.
    pub cancelled: u64,
    /// Given up after the last attempt, of those still kept.
    pub dead: u64,
    /// Jobs waiting at each priority, index 0 to 9.
    #[schema(min_items = 10, max_items = 10)]
    pub queued_by_priority: Vec<u64>,
    /// How many jobs run at once.
    pub workers: u32,
    /// Most jobs that wait before new ones are refused.
    pub capacity: u64,
    /// Seconds until a job submitted now would be done.
    pub estimated_wait_seconds: f64,
    /// Whether the service is shutting down.
    pub draining: bool,
}

/// What a checkpoint is, makes by default and can make at most.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelDescription {
    /// The service's name.
    pub name: String,
    /// The checkpoint's name.
    pub checkpoint: String,
    /// Architecture class as its configuration says.
    pub architecture: String,
    /// Whether this is the small demonstration checkpoint.
    pub demonstration: bool,
    /// `text-to-video`, `image-to-video`, `text-to-image`.
    pub tasks: Vec<String>,
    /// `cpu` or `cuda:0`.
    pub device: String,
    /// `bf16` or `f32`.
    pub dtype: String,
    /// `none` or `fp8`.
    pub quantization: String,
    /// Parameters of the whole pipeline.
    pub parameters: u64,
    /// Used when a request names none.
    #[schema(value_type = String, example = "64x64")]
    pub default_resolution: Resolution,
    /// Used when a request names none.
    pub default_num_frames: u32,
    /// Used when a request names none.
    pub default_fps: u32,
    /// Used when a request names none.
    pub default_steps: u32,
    /// Used when a request names none.
    pub default_guidance_scale: f64,
    /// Used when a request names none.
    pub default_scheduler: SchedulerName,
    /// Used when a request names none.
    pub default_format: OutputFormat,
    /// A prompt to try.
    pub example_prompt: String,
    /// What is refused.
    pub limits: ModelLimits,
}

/// Limits of a checkpoint on this machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelLimits {
    /// Width and height are multiples of this.
    pub size_multiple: u32,
    /// Smallest side in pixels.
    pub min_side: u32,
    /// Largest side in pixels.
    pub max_side: u32,
    /// Most frames (4k+1).
    pub max_frames: u32,
    /// Most width × height × frames.
    pub max_pixels: u64,
    /// Most denoising steps.
    pub max_steps: u32,
    /// Most characters of a prompt.
    pub max_prompt_characters: u32,
    /// Most seconds.
    pub max_duration_seconds: u32,
    /// Whether `image` is used: `none`, `required`.
    pub image: String,
}
