//! Failures of the queue as problems.

use videosdgx_api::{Code, Problem};
use videosdgx_jobs::QueueError;

use crate::shell::Failure;

/// The job is not there, or not the caller's: nobody can tell which.
pub(crate) fn job_not_found() -> Failure {
    Failure::new(Code::JobNotFound, "there is no such job, or it is not yours")
}

impl From<QueueError> for Failure {
    fn from(error: QueueError) -> Self {
        let detail = error.to_string();
        match error {
            QueueError::NotFound => job_not_found(),
            QueueError::IdempotencyConflict { .. } => Self::new(Code::IdempotencyConflict, detail),
            QueueError::QueueFull { limit, retry_after, .. } => Self(
                Problem::new(Code::QueueFull, detail)
                    .with_limit(limit)
                    .with_retry_after(retry_after.as_secs()),
            ),
            QueueError::AlreadyEnded { .. } => Self::new(Code::AlreadyEnded, detail),
            QueueError::NotEnded { .. } => Self::new(Code::NotCompleted, detail),
            QueueError::StorageFull => Self(Problem::new(Code::StorageFull, detail).with_retry_after(30)),
            QueueError::Closed => Self::draining(),
            QueueError::Stale { .. }
            | QueueError::DuplicateId { .. }
            | QueueError::Storage(_)
            | QueueError::Locked { .. }
            | QueueError::TooNew { .. } => Self::internal(detail),
        }
    }
}
