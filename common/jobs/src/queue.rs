//! The contract of a durable queue.

use std::time::Duration;

use futures::future::BoxFuture;
use videosdgx_api::{JobId, JobStatus};

use crate::{
    AttemptOutcome, Claim, Counts, EventStream, Forgotten, JobFailure, JobOutput, JobPage, JobRecord, Lease,
    ListQuery, Principal, Progress, QueueError, Signal, Submission, Submitted, Totals,
};

/// A pending answer. The request has been sent when this is returned, so dropping it only discards the answer (a dropped `claim`
/// claims no job). Needs no async runtime: await it anywhere, or call [`wait`] on a plain thread.
pub type Answer<T> = BoxFuture<'static, Result<T, QueueError>>;

/// Waits for an answer on a plain thread (a worker's). Not for threads of an async runtime.
pub fn wait<T>(answer: Answer<T>) -> Result<T, QueueError> {
    futures::executor::block_on(answer)
}

/// A durable queue of jobs. A write is answered once it is durable. Methods that take a [`Principal`] return
/// [`QueueError::NotFound`] for jobs of other principals.
pub trait Queue: Send + Sync + 'static {
    /// Enqueues all submissions or none; the results are in the same order. A known idempotency key with the same body returns
    /// the earlier job.
    ///
    /// Errors: `QueueFull`, `IdempotencyConflict`, `DuplicateId`.
    fn submit(&self, submissions: Vec<Submission>) -> Answer<Vec<Submitted>>;

    /// A job of `principal`.
    fn get(&self, principal: &Principal, job: &JobId) -> Answer<JobRecord>;

    /// The jobs of `principal`, one page in the order of the query. Errors: `NotFound` when `query.after` is not a job of
    /// `principal`.
    fn list(&self, principal: &Principal, query: ListQuery) -> Answer<JobPage>;

    /// Cancels a queued job at once (returns `Cancelled`), a running one as soon as its worker checks (returns `Running`).
    /// Repeating it is not an error. Errors: `AlreadyEnded` for other final states.
    fn cancel(&self, principal: &Principal, job: &JobId) -> Answer<JobStatus>;

    /// Forgets an ended job and returns which file it had. Errors: `NotEnded`.
    fn forget(&self, principal: &Principal, job: &JobId) -> Answer<Forgotten>;

    /// The events of a job of `principal` after sequence number `after` (0: from the beginning; otherwise `Last-Event-ID`). Only
    /// the newest `max_events_per_job` events are kept.
    fn subscribe(&self, principal: &Principal, job: &JobId, after: u64) -> Answer<EventStream>;

    /// Any job, whichever principal owns it: for workers and clean-up, never for a response.
    fn find(&self, job: &JobId) -> Answer<Option<JobRecord>>;

    /// Number of jobs by state.
    fn counts(&self) -> Answer<Counts>;

    /// Aggregates that survive a restart.
    fn totals(&self) -> Answer<Totals>;

    /// The next job for `worker` (a name for the log), waiting up to `wait_up_to` for one; `None` when there was none in time or
    /// when claims are closed. On `StorageFull` and `Storage` wait a moment before trying again.
    fn claim(&self, worker: &str, wait_up_to: Duration) -> Answer<Option<Claim>>;

    /// Extends the lease by its full length from now. Errors: `Stale`.
    fn renew(&self, lease: &Lease) -> Answer<Signal>;

    /// Reports progress. Need not be awaited: drop the answer and check [`Claim::cancel`]. Errors: `Stale`.
    fn progress(&self, lease: &Lease, progress: Progress) -> Answer<Signal>;

    /// Adds a warning for the owner (each text once). Errors: `Stale`.
    fn warn(&self, lease: &Lease, warning: String) -> Answer<Signal>;

    /// Completes a job whose file is synced under its final name. The name must contain the attempt unless it is the first, so
    /// that a delayed attempt cannot overwrite the result of another. If this returns `Cancelled` or fails with `Stale`, remove
    /// the file; on `StorageFull` or `Storage` try again (renewals still succeed, because they need no disk).
    fn complete(&self, lease: &Lease, output: JobOutput) -> Answer<AttemptOutcome>;

    /// The attempt failed. With `retry` the job is queued again until its attempts are used up, then `Failed`; before each retry
    /// it waits for [`QueueConfig::retry_delays`](crate::QueueConfig::retry_delays).
    fn fail(&self, lease: &Lease, failure: JobFailure, retry: bool) -> Answer<AttemptOutcome>;

    /// The worker stopped because of [`Signal::Cancel`].
    fn cancelled(&self, lease: &Lease) -> Answer<AttemptOutcome>;

    /// Returns the job to the queue without using up an attempt; it cannot be claimed for `delay`. `waits_for` is what the job
    /// waits for (memory, disk space), shown to its owner until the next claim; `None` at a shutdown.
    fn release(
        &self,
        lease: &Lease,
        waits_for: Option<JobFailure>,
        delay: Duration,
    ) -> Answer<AttemptOutcome>;

    /// Refuses claims from now on: waiting workers get `None`. Everything else continues.
    fn close_claims(&self);
}
