//! Functions that the checks share.

use std::{sync::Arc, time::Duration};

use videosdgx_api::{JobId, JobStatus, Priority};

use crate::{
    Claim, IdempotencyKey, JobFailure, JobOutput, JobRecord, Principal, Queue, QueueConfig, QueueError,
    Submission, wait,
};

/// Long enough for anything that should happen at once.
pub(super) const SOON: Duration = Duration::from_secs(20);

pub(super) fn ann() -> Principal {
    Principal::new("ann")
}

pub(super) fn bob() -> Principal {
    Principal::new("bob")
}

/// A job of `principal` at the usual priority.
pub(super) fn job(principal: &Principal) -> Submission {
    Submission {
        id: JobId::random("test").expect("a valid name"),
        principal: principal.clone(),
        priority: Priority::default(),
        body: r#"{"prompt":"a red circle"}"#.to_owned(),
        attachment: None,
        prompt_characters: 12,
        idempotency: None,
        warnings: Vec::new(),
    }
}

pub(super) fn with_priority(mut submission: Submission, priority: u8) -> Submission {
    submission.priority = Priority::new(priority).expect("0 to 9");
    submission
}

pub(super) fn with_key(mut submission: Submission, key: &str, body: u8) -> Submission {
    submission.idempotency = Some(IdempotencyKey { key: key.to_owned(), body_hash: [body; 32] });
    submission
}

/// Settings with leases that are short enough for a check to wait for their end.
pub(super) fn short_leases() -> QueueConfig {
    QueueConfig { lease: Duration::from_millis(200), ..QueueConfig::default() }
}

pub(super) fn output(path: &str) -> JobOutput {
    JobOutput { path: path.to_owned(), bytes: 1234, used: r#"{"seed":7}"#.to_owned() }
}

pub(super) fn failure() -> JobFailure {
    JobFailure { code: "internal".to_owned(), message: "it broke".to_owned() }
}

/// Submits one job.
pub(super) fn submit(queue: &Arc<dyn Queue>, submission: Submission) -> JobId {
    let answers = wait(queue.submit(vec![submission])).expect("the job is accepted");
    answers.into_iter().next().expect("one answer a submission").id
}

/// Claims a job that is waiting or is about to be submitted.
pub(super) fn claim(queue: &Arc<dyn Queue>) -> Claim {
    wait(queue.claim("worker", SOON)).expect("claims work").expect("there is a job to claim")
}

/// Whether no job can be claimed now.
pub(super) fn nothing_to_claim(queue: &Arc<dyn Queue>) -> bool {
    wait(queue.claim("worker", Duration::ZERO)).expect("claims work").is_none()
}

pub(super) fn get(queue: &Arc<dyn Queue>, principal: &Principal, id: &JobId) -> JobRecord {
    wait(queue.get(principal, id)).expect("the job is there")
}

pub(super) fn status(queue: &Arc<dyn Queue>, principal: &Principal, id: &JobId) -> JobStatus {
    get(queue, principal, id).status
}

pub(super) fn complete(queue: &Arc<dyn Queue>, claim: &Claim) -> JobStatus {
    let path = format!("{}.mp4", claim.lease.job);
    wait(queue.complete(&claim.lease, output(&path))).expect("the result is taken").status
}

pub(super) fn is_stale<T: std::fmt::Debug>(result: &Result<T, QueueError>) -> bool {
    matches!(result, Err(QueueError::Stale { .. }))
}
