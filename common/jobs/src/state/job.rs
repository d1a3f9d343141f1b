//! One job in the state machine: only what its decisions depend on.

use jiff::Timestamp;
use videosdgx_api::{EventKind, JobEvent, JobId, JobStatus, Priority};

use crate::{IdempotencyKey, JobFailure, Lease, Principal, Progress};

/// The state of a job, with its times: queue times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Waiting; cannot be claimed before `not_before`.
    Queued {
        /// 0: can be claimed now.
        not_before: i64,
    },
    /// Claimed by a worker.
    Running {
        /// When the lease ends unless it is renewed.
        lease_until: i64,
        /// When this attempt began.
        started: i64,
    },
    /// A final status.
    Ended(JobStatus),
}

impl Phase {
    /// The public status.
    #[must_use]
    pub fn status(self) -> JobStatus {
        match self {
            Self::Queued { .. } => JobStatus::Queued,
            Self::Running { .. } => JobStatus::Running,
            Self::Ended(status) => status,
        }
    }
}

/// A job.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Grows with each job of the queue.
    pub number: u64,
    /// Its id.
    pub id: JobId,
    /// Its owner.
    pub principal: Principal,
    /// Its priority.
    pub priority: Priority,
    /// Identifies a repeated submission.
    pub idempotency: Option<IdempotencyKey>,
    /// Length of the prompt.
    pub prompt_characters: u64,
    /// Queue time of its submission.
    pub enqueued: i64,
    /// Its state.
    pub phase: Phase,
    /// Number of the newest claim: the fencing token. Only grows.
    pub attempt: u32,
    /// Attempts that ended without a result; releases do not count.
    pub attempts_used: u32,
    /// The owner requested cancellation.
    pub cancel_requested: bool,
    /// Progress of the newest attempt, or [`Stage::Waiting`](videosdgx_api::Stage::Waiting) of a released one.
    pub progress: Option<Progress>,
    /// Sequence number of the newest event.
    pub sequence: u64,
    /// Why it, or its last attempt, failed, or what it waits for.
    pub failure: Option<JobFailure>,
    /// Wall time of its submission.
    pub created_at: Timestamp,
    /// Wall time of its newest claim.
    pub started_at: Option<Timestamp>,
    /// Wall time of its end.
    pub finished_at: Option<Timestamp>,
    /// File of the result.
    pub output_path: Option<String>,
}

impl Job {
    /// The public status.
    #[must_use]
    pub fn status(&self) -> JobStatus {
        self.phase.status()
    }

    /// 0 to 100; 100 only when completed.
    #[must_use]
    pub fn percent(&self) -> u8 {
        match self.phase {
            Phase::Ended(JobStatus::Completed) => 100,
            Phase::Queued { .. } => 0,
            Phase::Running { .. } | Phase::Ended(_) => self.progress.map_or(0, Progress::percent),
        }
    }

    /// The lease of the newest claim.
    #[must_use]
    pub fn lease(&self) -> Lease {
        Lease { job: self.id.clone(), attempt: self.attempt }
    }

    /// The next event, with the job's current state.
    pub(super) fn next_event(&mut self, kind: EventKind) -> JobEvent {
        self.sequence += 1;
        JobEvent {
            sequence: self.sequence,
            job_id: self.id.clone(),
            kind,
            status: self.status(),
            progress: self.percent(),
            stage: self.progress.map(|progress| progress.stage),
            step: self.progress.map(|progress| progress.step),
            stage_steps: self.progress.map(|progress| progress.steps),
            attempt: self.attempt,
            error: self.failure.as_ref().map(|failure| failure.message.clone()),
        }
    }
}
