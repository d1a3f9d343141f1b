//! Status of a service: root, health, readiness, info, loader and queue.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ModelDescription;

/// Answer of `GET /`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServiceRoot {
    /// The service's name.
    pub name: String,
    /// Program version.
    pub version: String,
    /// The checkpoint it serves, `demo-shapes` if no other is configured; absent if it is missing or invalid.
    pub checkpoint: Option<String>,
    /// The operations of the service.
    pub endpoints: Vec<Endpoint>,
}

/// An operation in the answer of `GET /`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Endpoint {
    /// `GET`, `POST`, `DELETE`.
    pub method: String,
    /// Path template, for example `/jobs/{id}`.
    pub path: String,
    /// Description in one sentence.
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
    /// Whether the model is in memory and jobs are accepted.
    pub ready: bool,
    /// Why it is not ready.
    pub reason: Option<String>,
    /// Whether a job would be accepted now (it loads the model).
    pub accepting_jobs: bool,
    /// State of the model loader.
    pub loader: LoaderReport,
}

/// Answer of `GET /info`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Info {
    /// The service's name.
    pub name: String,
    /// Program version.
    pub version: String,
    /// Name of the checkpoint; absent if it is missing or invalid.
    pub checkpoint: Option<String>,
    /// The machine that the service runs on.
    pub system: SystemReport,
    /// Defaults and limits of the checkpoint; absent if it is missing or invalid.
    pub model: Option<ModelDescription>,
    /// Why `model` is absent.
    pub model_error: Option<String>,
    /// State of the model loader.
    pub loader: LoaderReport,
    /// State of the queue.
    pub queue: QueueStatus,
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SystemReport {
    /// Name of the CPU.
    pub cpu: String,
    /// Number of logical CPUs.
    pub cpu_count: u32,
    /// Memory of host and process.
    pub memory: MemoryReport,
    /// GPUs that the driver reports.
    pub gpus: Vec<Gpu>,
}

/// One GPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Gpu {
    /// Name, for example `NVIDIA GB10`.
    pub name: String,
    /// Whether it shares the host's memory; then only the host's memory is reported.
    pub unified_memory: bool,
    /// Total memory in bytes; absent on unified memory.
    pub memory_total_bytes: Option<u64>,
    /// Used memory in bytes; absent on unified memory.
    pub memory_used_bytes: Option<u64>,
    /// Utilization in percent.
    pub utilization_percent: Option<u32>,
    /// Temperature in degrees Celsius.
    pub temperature_celsius: Option<u32>,
}

/// Memory of host and process, GB = 10⁹ bytes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MemoryReport {
    /// Resident memory of this process.
    pub allocated_gb: f64,
    /// Memory available to new programs (`MemAvailable`, or the rest of the container's limit).
    pub free_gb: f64,
    /// Total memory.
    pub total_gb: f64,
}

/// State of the model loader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LoaderState {
    /// The model is not in memory.
    Unloaded,
    /// The model is being loaded.
    Loading,
    /// The model is in memory.
    Loaded,
    /// The model is being unloaded.
    Unloading,
    /// The last load failed; the next use tries again.
    Failed,
}

/// State of the model loader, which loads on first use and unloads when idle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LoaderReport {
    /// Present state.
    pub state: LoaderState,
    /// Why the last load failed.
    pub error: Option<String>,
    /// Stable error code of that failure.
    pub error_code: Option<String>,
    /// Duration of the last load in seconds.
    pub load_seconds: Option<f64>,
    /// Seconds since the model was last used.
    pub idle_seconds: Option<f64>,
    /// Number of jobs that use the model now.
    pub in_use: u32,
    /// Idle minutes after which it is unloaded; 0 = never.
    pub auto_unload_minutes: f64,
    /// Seconds until it is unloaded.
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
    /// Decrease of resident memory, at least 0.
    pub memory_freed_gb: f64,
    /// Memory after unloading.
    pub memory_after: MemoryReport,
}

/// Answer of `GET /queue/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QueueStatus {
    /// Jobs waiting.
    pub queued: u64,
    /// Running jobs.
    pub processing: u64,
    /// Completed jobs that are still stored.
    pub completed: u64,
    /// Failed jobs that are still stored.
    pub failed: u64,
    /// Cancelled jobs that are still stored.
    pub cancelled: u64,
    /// Jobs abandoned after the last attempt that are still stored.
    pub dead: u64,
    /// Jobs waiting at each priority, index 0 to 9.
    #[schema(min_items = 10, max_items = 10)]
    pub queued_by_priority: Vec<u64>,
    /// Number of jobs that run at the same time.
    pub workers: u32,
    /// Largest number of waiting jobs; more are refused.
    pub capacity: u64,
    /// Estimated seconds until a job submitted now would be completed.
    pub estimated_wait_seconds: f64,
    /// Whether the service is shutting down.
    pub draining: bool,
}
