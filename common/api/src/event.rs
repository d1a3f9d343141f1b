//! Events of `GET /jobs/{id}/events`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{JobId, JobStatus, Stage};

/// One server-sent event. `sequence` is its SSE `id:`; a client that sends it as `Last-Event-ID` resumes after this event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobEvent {
    /// Grows by one with each event of a job, from 1.
    pub sequence: u64,
    /// The job.
    pub job_id: JobId,
    /// Kind of the event; the SSE `event:` name.
    pub kind: EventKind,
    /// Status of the job after the event.
    pub status: JobStatus,
    /// Progress in percent, 0 to 100.
    pub progress: u8,
    /// Present stage; absent when the job waits only for its turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
    /// Completed steps of this stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u32>,
    /// Total steps of this stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage_steps: Option<u32>,
    /// Number of the attempt, from 1; 0 before the first.
    pub attempt: u32,
    /// Why the job or its last attempt failed, or what it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Kind of a job event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// The status changed.
    State,
    /// A stage began or a step was completed.
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
