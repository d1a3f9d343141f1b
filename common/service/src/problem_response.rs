//! Failures of the queue as problems.

use videosdgx_api::{Code, Problem};
use videosdgx_jobs::QueueError;

use videosdgx_shell::Failure;

/// The job does not exist or belongs to another principal; the answer is the same.
pub(crate) fn job_not_found() -> Failure {
    Failure::new(Code::JobNotFound, "there is no such job, or it is not yours")
}

/// The response to an error of the queue.
pub(crate) fn queue_failure(error: QueueError) -> Failure {
    let detail = error.to_string();
    match error {
        QueueError::NotFound => job_not_found(),
        QueueError::IdempotencyConflict { .. } => Failure::new(Code::IdempotencyConflict, detail),
        QueueError::QueueFull { limit, retry_after, .. } => Failure(
            Problem::new(Code::QueueFull, detail).with_limit(limit).with_retry_after(retry_after.as_secs()),
        ),
        QueueError::AlreadyEnded { .. } => Failure::new(Code::AlreadyEnded, detail),
        QueueError::NotEnded { .. } => Failure::new(Code::NotCompleted, detail),
        QueueError::StorageFull => Failure(Problem::new(Code::StorageFull, detail).with_retry_after(30)),
        QueueError::Closed => Failure::draining(),
        QueueError::Stale { .. }
        | QueueError::DuplicateId { .. }
        | QueueError::Storage(_)
        | QueueError::Locked { .. }
        | QueueError::TooNew { .. } => Failure::internal(detail),
    }
}
