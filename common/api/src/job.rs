//! Jobs of the native API.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{GenerationSettings, JobId, Priority};

/// Status of a job. `completed`, `failed`, `cancelled` and `dead` are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobStatus {
    /// Waiting for a worker.
    Queued,
    /// A worker is running it.
    #[serde(rename = "processing", alias = "running")]
    Running,
    /// The video can be downloaded.
    Completed,
    /// It failed; `error` has the reason.
    Failed,
    /// Its owner cancelled it.
    Cancelled,
    /// Its worker died in every allowed attempt.
    Dead,
}

impl JobStatus {
    /// Every status, in the order of a job's life.
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Running, Self::Completed, Self::Failed, Self::Cancelled, Self::Dead];

    /// Whether the status is final.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }

    /// The name in the native API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "processing",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Dead => "dead",
        }
    }
}

/// Stage of a running job, or of one that waits for memory or disk space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Queued until there is enough memory or disk space; `error` and `error_code` say which. Uses up no attempt.
    Waiting,
    /// Waiting for the model to be loaded.
    Loading,
    /// Encoding prompt and image to embeddings.
    Encoding,
    /// Denoising the latents, step by step.
    Denoising,
    /// Decoding latents to frames and encoding the video file.
    Decoding,
    /// Syncing and renaming the file.
    Saving,
}

impl Stage {
    /// Every stage, in the order of a job.
    pub const ALL: [Self; 6] =
        [Self::Waiting, Self::Loading, Self::Encoding, Self::Denoising, Self::Decoding, Self::Saving];

    /// The name in JSON, metrics and the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Loading => "loading",
            Self::Encoding => "encoding",
            Self::Denoising => "denoising",
            Self::Decoding => "decoding",
            Self::Saving => "saving",
        }
    }

    /// Percentage of the whole job when `step` of `steps` of this stage are done. Most of the time is denoising.
    #[must_use]
    pub fn percent(self, step: u32, steps: u32) -> u8 {
        let (from, to) = match self {
            Self::Waiting => (0_u32, 0_u32),
            Self::Loading => (0, 5),
            Self::Encoding => (5, 8),
            Self::Denoising => (8, 88),
            Self::Decoding => (88, 98),
            Self::Saving => (98, 99),
        };
        let done = (to - from) * step.min(steps) / steps.max(1);
        u8::try_from(from + done).unwrap_or(99)
    }
}

/// Answer of `GET /jobs/{id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Job {
    /// Id of the job.
    pub job_id: JobId,
    /// The service that runs it.
    pub model_name: String,
    /// The checkpoint that made it; before it is completed, the one that it was accepted for.
    pub checkpoint: String,
    /// Its status.
    pub status: JobStatus,
    /// What is generated. Attachments are never shown.
    #[serde(flatten)]
    pub settings: GenerationSettings,
    /// Length of the video in seconds.
    pub duration: f64,
    /// 0 (least urgent) to 9.
    pub priority: Priority,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When its last attempt began.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub completed_at: Option<Timestamp>,
    /// File name of the video, once completed.
    pub output_path: Option<String>,
    /// Path of the video relative to the service, once completed.
    pub download_url: Option<String>,
    /// Size of the file, once completed.
    pub output_bytes: Option<u64>,
    /// Why the job failed; of a job that is not finished, why its last attempt failed or what it waits for.
    pub error: Option<String>,
    /// Stable error code of `error`.
    pub error_code: Option<String>,
    /// Progress in percent, 0 to 100.
    #[schema(minimum = 0, maximum = 100)]
    pub progress: u8,
    /// Present stage; absent when the job waits only for its turn.
    pub stage: Option<Stage>,
    /// Completed steps of this stage.
    pub step: Option<u32>,
    /// Total steps of this stage.
    pub stage_steps: Option<u32>,
    /// Number of the present or last attempt, from 1; 0 before the first.
    pub attempt: u32,
    /// 1 = next; absent when not waiting.
    pub queue_position: Option<u64>,
    /// Warnings for the caller.
    pub warnings: Vec<String>,
}

/// Answer of `GET /jobs`, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobList {
    /// Jobs of this page.
    pub jobs: Vec<Job>,
    /// `cursor` of the next page; absent on the last.
    pub next_cursor: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_never_decreases_through_the_stages() {
        let mut last = 0;
        for stage in Stage::ALL {
            for step in 0..=20 {
                let percent = stage.percent(step, 20);
                assert!(percent >= last && percent < 100, "{stage:?} {step}");
                last = percent;
            }
        }
    }

    #[test]
    fn running_is_spelled_processing() {
        for status in JobStatus::ALL {
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
        assert_eq!(JobStatus::Running.as_str(), "processing");
    }
}
