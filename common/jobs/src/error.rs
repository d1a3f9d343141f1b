//! What can go wrong.

use std::{path::PathBuf, time::Duration};

use videosdgx_api::{JobId, JobStatus};

/// Which bound of the queue was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FullScope {
    /// All jobs that wait.
    Queue,
    /// The jobs of this principal that wait.
    Principal,
}

/// Errors of the queue. Each commit can fail many callers, hence `Clone`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// No such job, or not this principal's.
    #[error("no such job")]
    NotFound,
    /// The attempt is not the one that holds the job now: write nothing, remove what was made.
    #[error("attempt {attempt} no longer holds job {job}")]
    Stale {
        /// The job.
        job: JobId,
        /// The refused fencing token.
        attempt: u32,
    },
    /// The same idempotency key came with another body.
    #[error("the idempotency key was already used for job {job} with another body")]
    IdempotencyConflict {
        /// The job made with the key.
        job: JobId,
    },
    /// The id is already taken.
    #[error("job id {job} is already taken")]
    DuplicateId {
        /// The id.
        job: JobId,
    },
    /// A bound was reached; nothing of the submission was enqueued.
    #[error("the queue is full ({limit} jobs wait), try again in {} s", retry_after.as_secs())]
    QueueFull {
        /// Which bound.
        scope: FullScope,
        /// The bound.
        limit: usize,
        /// When a place is expected, at least 1 s.
        retry_after: Duration,
    },
    /// The job has not ended: cancel it first.
    #[error("the job is {}, cancel it first", status.as_str())]
    NotEnded {
        /// Where it is.
        status: JobStatus,
    },
    /// The job has already ended, so it cannot be cancelled.
    #[error("the job is already {}", status.as_str())]
    AlreadyEnded {
        /// How it ended.
        status: JobStatus,
    },
    /// No space left; nothing was changed. It works again as soon as there is space.
    #[error("no space left for the job database")]
    StorageFull,
    /// The database failed; nothing was changed.
    #[error("job database: {0}")]
    Storage(String),
    /// Another process owns the state folder.
    #[error("{} is in use by another process, stop it or choose another state folder", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The database was written by a newer program.
    #[error("the job database has version {found}, this program knows up to {known}: use the newer program")]
    TooNew {
        /// Version found.
        found: i64,
        /// Newest version known.
        known: i64,
    },
    /// The queue is shutting down.
    #[error("the queue is closed")]
    Closed,
}
