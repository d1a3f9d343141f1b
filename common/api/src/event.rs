//! What `GET /jobs/{id}/events` streams.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{JobId, JobStatus, Stage};

/// One server-sent event. Its `sequence` is the SSE `id:`; sent back as `Last-Event-ID` it resumes after it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobEvent {
    /// Grows by one with each event of a job, from 1.
    pub sequence: u64,
    /// The job.
    pub job_id: JobId,
    /// What happened; the SSE `event:` name.
    pub kind: EventKind,
    /// Where the job is now.
    pub status: JobStatus,
    /// 0 to 100.
    pub progress: u8,
    /// What is being done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
    /// Steps of this stage that are done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u32>,
    /// Steps of this stage in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage_steps: Option<u32>,
    /// Which attempt.
    pub attempt: u32,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Kinds of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// The status changed.
    State,
    /// A stage or step is done.
    Progress,
}

impl EventKind {
    /// The SSE `event:` name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Progress => "progress",
        }
    }
}
