//! Submissions to the queue.

use videosdgx_api::{JobId, JobStatus, Principal, Priority};

/// Identifies a repeated submission: the same key and body return the first job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The header's value; one namespace per principal.
    pub key: String,
    /// Hash of the body as sent (for example SHA-256): the same key with another hash is a conflict.
    pub body_hash: [u8; 32],
}

/// One job to be put into the queue.
#[derive(Debug, Clone, PartialEq)]
pub struct Submission {
    /// A fresh id ([`JobId::random`]).
    pub id: JobId,
    /// The owner; no other principal sees the job.
    pub principal: Principal,
    /// Its priority.
    pub priority: Priority,
    /// The request as the worker needs it, JSON; opaque to the queue.
    pub body: String,
    /// Data too large for the record (an image); only a [`crate::Claim`] contains it.
    pub attachment: Option<Vec<u8>>,
    /// Length of the prompt, for the aggregates.
    pub prompt_characters: u64,
    /// Identifies a repeated submission.
    pub idempotency: Option<IdempotencyKey>,
    /// Warnings for the owner.
    pub warnings: Vec<String>,
}

/// Result of one [`Submission`], returned once it is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// The job: the submission's own id, or that of the job made earlier with the same idempotency key.
    pub id: JobId,
    /// `Queued`, or the state of the earlier job.
    pub status: JobStatus,
    /// Whether it is a job that was created earlier.
    pub existing: bool,
    /// 1 = next; 0 = no longer waiting. An estimate: later, more urgent jobs overtake.
    pub queue_position: u64,
}
