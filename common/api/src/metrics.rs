//! `GET /metrics` with `Accept: application/json`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{JobId, JobStatus, LoaderReport, MemoryReport};

/// Totals since the queue was made (they survive a restart) and the state of now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MetricsReport {
    /// Jobs that came to an end by work: `successful + failed`.
    pub total_inferences: u64,
    /// Completed.
    pub successful: u64,
    /// Failed or dead.
    pub failed: u64,
    /// `successful / total_inferences`, 0 to 1; absent before the first.
    pub success_rate: Option<f64>,
    /// Of the completed, seconds from the start of the last attempt to its end; absent before the first.
    pub avg_duration_seconds: Option<f64>,
    /// See `avg_duration_seconds`.
    pub min_duration_seconds: Option<f64>,
    /// See `avg_duration_seconds`.
    pub max_duration_seconds: Option<f64>,
    /// Average length of the prompts, characters.
    pub avg_prompt_characters: Option<f64>,
    /// The last ten that ended, newest first.
    pub last_10: Vec<InferenceRecord>,
    /// Jobs waiting.
    pub queue_size: u64,
    /// Memory of now.
    pub memory: MemoryReport,
    /// The model's state, last use and idle timer.
    pub model: LoaderReport,
}

/// One ended job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InferenceRecord {
    /// The job.
    pub job_id: JobId,
    /// How it ended.
    pub status: JobStatus,
    /// Seconds of its last attempt.
    pub duration_seconds: f64,
    /// Length of its prompt, characters.
    pub prompt_characters: u64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub completed_at: Timestamp,
}
