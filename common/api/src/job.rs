//! A job as its owner sees it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{JobId, OutputFormat, Priority, Resolution, SchedulerName};

/// Where a job is. `completed`, `failed`, `cancelled` and `dead` are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobStatus {
    /// Waiting for a worker.
    Queued,
    /// A worker has it.
    #[serde(rename = "processing", alias = "running")]
    Running,
    /// The file is there.
    Completed,
    /// It cannot be made; `error` says why.
    Failed,
    /// Its owner cancelled it.
    Cancelled,
    /// Its worker died in each of the allowed attempts.
    Dead,
}

impl JobStatus {
    /// All, in the order of a job's life.
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Running, Self::Completed, Self::Failed, Self::Cancelled, Self::Dead];

    /// Whether nothing will ever change any more.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }

    /// The spelling of the native API.
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

/// What a worker is doing for a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Waiting for the model to be loaded.
    Loading,
    /// Prompt (and image) to embeddings.
    Encoding,
    /// One step of `steps` after the other.
    Denoising,
    /// Latents to pictures to the file.
    Decoding,
    /// Sync and rename.
    Saving,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Self; 5] = [Self::Loading, Self::Encoding, Self::Denoising, Self::Decoding, Self::Saving];

    /// The spelling of the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Encoding => "encoding",
            Self::Denoising => "denoising",
            Self::Decoding => "decoding",
            Self::Saving => "saving",
        }
    }

    /// Percent of the whole job when `step` of `steps` of this stage are done. Denoising is where the time goes.
    #[must_use]
    pub fn percent(self, step: u32, steps: u32) -> u8 {
        let (from, to) = match self {
            Self::Loading => (0_u32, 5_u32),
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
    /// Its name.
    pub job_id: JobId,
    /// The service that makes it.
    pub model_name: String,
    /// The checkpoint that was configured when it was accepted.
    pub checkpoint: String,
    /// Where it is.
    pub status: JobStatus,
    /// As sent.
    pub prompt: String,
    /// As used.
    pub negative_prompt: String,
    /// Seconds.
    pub duration: f64,
    /// Pixels.
    #[schema(value_type = String, example = "64x64")]
    pub resolution: Resolution,
    /// Frames per second.
    pub fps: u32,
    /// Frames in all.
    pub num_frames: u32,
    /// Denoising steps.
    pub steps: u32,
    /// Classifier-free guidance.
    pub guidance_scale: f64,
    /// Send it again for the same video.
    pub seed: u64,
    /// Codec.
    pub format: OutputFormat,
    /// Sampler.
    pub scheduler: SchedulerName,
    /// 0 to 9.
    pub priority: Priority,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When its newest attempt began.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it came to its end.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub completed_at: Option<Timestamp>,
    /// File name of the video, once completed.
    pub output_path: Option<String>,
    /// Where to fetch it, relative to the service, once completed.
    pub download_url: Option<String>,
    /// Size of the file, once completed.
    pub output_bytes: Option<u64>,
    /// Why it failed.
    pub error: Option<String>,
    /// Stable code of the failure.
    pub error_code: Option<String>,
    /// 0 to 100.
    #[schema(minimum = 0, maximum = 100)]
    pub progress: u8,
    /// What is being done now.
    pub stage: Option<Stage>,
    /// Steps of this stage that are done.
    pub step: Option<u32>,
    /// Steps of this stage in all.
    pub stage_steps: Option<u32>,
    /// Which attempt this is, from 1; 0 before the first.
    pub attempt: u32,
    /// 1 = next; absent when not waiting.
    pub queue_position: Option<u64>,
    /// What the person should know.
    pub warnings: Vec<String>,
}

/// Answer of `GET /jobs`: newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobList {
    /// One page.
    pub jobs: Vec<Job>,
    /// Send it as `cursor` for the next page; absent on the last.
    pub next_cursor: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_never_goes_back_through_the_stages() {
        let mut last = 0;
        for stage in [Stage::Loading, Stage::Encoding, Stage::Denoising, Stage::Decoding, Stage::Saving] {
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
