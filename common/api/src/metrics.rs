//! `GET /metrics` with `Accept: application/json`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{JobId, JobStatus, LoaderReport, MemoryReport};

/// Totals since the queue was created (they survive a restart) and the present state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MetricsReport {
    /// Jobs that ran to an end: `successful + failed`.
    pub total_inferences: u64,
    /// Completed.
    pub successful: u64,
    /// Failed or dead.
    pub failed: u64,
    /// `successful / total_inferences`, 0 to 1; absent before the first.
    pub success_rate: Option<f64>,
    /// Average seconds of a completed job's last attempt; absent before the first.
    pub avg_duration_seconds: Option<f64>,
    /// Shortest, see `avg_duration_seconds`.
    pub min_duration_seconds: Option<f64>,
    /// Longest, see `avg_duration_seconds`.
    pub max_duration_seconds: Option<f64>,
    /// Average length of the prompts, characters.
    pub avg_prompt_characters: Option<f64>,
    /// The ten that ended last, newest first.
    pub last_10: Vec<InferenceRecord>,
    /// Jobs waiting.
    pub queue_size: u64,
    /// Present memory use.
    pub memory: MemoryReport,
    /// State, last use and idle timer of the model.
    pub model: LoaderReport,
}

/// A job that has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InferenceRecord {
    /// The job.
    pub job_id: JobId,
    /// Its final status.
    pub status: JobStatus,
    /// Duration of its last attempt in seconds.
    pub duration_seconds: f64,
    /// Length of its prompt, characters.
    pub prompt_characters: u64,
    /// When it ended.
    #[schema(value_type = String, format = DateTime)]
    pub completed_at: Timestamp,
}
