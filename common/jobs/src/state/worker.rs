//! The state machine: operations of workers. Each of them except a claim carries the attempt; a stale attempt
//! is refused.

use std::time::Duration;

use videosdgx_api::{EventKind, JobStatus, Stage};

use super::{GrantedClaim, Machine, Phase, Time, machine::millis};
use crate::{AttemptOutcome, JobFailure, JobOutput, Lease, Progress, QueueError, Signal};

/// The code of a job whose worker died in each of its attempts.
const WORKER_LOST: &str = "worker_lost";

impl Machine {
    /// Claims the next job.
    pub fn claim(&mut self, time: Time) -> Option<GrantedClaim> {
        self.advance(time);
        let now = self.clock.now();
        let number = self.order.pop(now)?;
        let lease_until = now.saturating_add(millis(self.config.lease));
        // The job has already left the order of claims; remove it from the other indexes.
        self.leave_waiting(number);
        let job = self.jobs.get_mut(&number)?;
        if job.progress.is_some_and(|progress| progress.stage == Stage::Waiting) {
            // What it waited for may be there now.
            job.failure = None;
        }
        job.phase = Phase::Running { lease_until, started: now };
        job.attempt += 1;
        job.progress = None;
        job.started_at = Some(time.wall);
        let lease = job.lease();
        self.leases.insert((lease_until, number));
        self.counts.running += 1;
        self.emit(number, EventKind::State);
        Some(GrantedClaim { number, lease, lease_for: self.config.lease })
    }

    /// Whether a claim would get a job now.
    #[must_use]
    pub fn has_claimable(&self) -> bool {
        !self.order.is_empty()
    }

    /// Extends the lease. Changes nothing that has to be stored: restoring the machine renews the leases.
    ///
    /// # Errors
    /// `Stale`.
    pub fn renew(&mut self, time: Time, lease: &Lease) -> Result<Signal, QueueError> {
        self.advance(time);
        let number = self.held(lease)?;
        self.extend_lease(number);
        Ok(self.signal(number))
    }

    /// Records the progress, which never decreases within an attempt.
    ///
    /// # Errors
    /// `Stale`.
    pub fn progress(&mut self, time: Time, lease: &Lease, progress: Progress) -> Result<Signal, QueueError> {
        self.advance(time);
        let number = self.held(lease)?;
        self.extend_lease(number);
        if let Some(job) = self.jobs.get_mut(&number)
            && job.progress != Some(progress)
            && job.progress.is_none_or(|known| known.percent() <= progress.percent())
        {
            job.progress = Some(progress);
            self.emit(number, EventKind::Progress);
        }
        Ok(self.signal(number))
    }

    /// Adds a warning.
    ///
    /// # Errors
    /// `Stale`.
    pub fn warn(&mut self, time: Time, lease: &Lease, warning: String) -> Result<Signal, QueueError> {
        self.advance(time);
        let number = self.held(lease)?;
        self.changes.warnings.push((number, warning));
        Ok(self.signal(number))
    }

    /// The job is done, unless its owner cancelled it first.
    ///
    /// # Errors
    /// `Stale`.
    pub fn complete(
        &mut self,
        time: Time,
        lease: &Lease,
        output: JobOutput,
    ) -> Result<AttemptOutcome, QueueError> {
        self.advance(time);
        let number = self.held(lease)?;
        if let Some(ended) = self.end_if_cancelled(time, number) {
            return Ok(ended);
        }
        if let Some(job) = self.jobs.get_mut(&number) {
            job.output_path = Some(output.path.clone());
            job.failure = None;
        }
        self.changes.outputs.push((number, output));
        self.end(time, number, JobStatus::Completed);
        Ok(AttemptOutcome { status: JobStatus::Completed })
    }

    /// The attempt failed: the job is queued again if `retry` is set and attempts are left.
    ///
    /// # Errors
    /// `Stale`.
    pub fn fail(
        &mut self,
        time: Time,
        lease: &Lease,
        failure: JobFailure,
        retry: bool,
    ) -> Result<AttemptOutcome, QueueError> {
        self.advance(time);
        let number = self.held(lease)?;
        if let Some(ended) = self.end_if_cancelled(time, number) {
            return Ok(ended);
        }
        let max_attempts = self.config.max_attempts;
        let Some(job) = self.jobs.get_mut(&number) else { return Err(stale(lease)) };
        job.attempts_used += 1;
        job.failure = Some(failure);
        let status = if retry && job.attempts_used < max_attempts {
            let delay = self.config.retry_delay(job.attempts_used);
            self.requeue(number, None, delay);
            JobStatus::Queued
        } else {
            self.end(time, number, JobStatus::Failed);
            JobStatus::Failed
        };
        Ok(AttemptOutcome { status })
    }

    /// The worker stopped because the owner cancelled. Without a cancellation request the job returns to the
    /// queue.
    ///
    /// # Errors
    /// `Stale`.
    pub fn cancelled(&mut self, time: Time, lease: &Lease) -> Result<AttemptOutcome, QueueError> {
        self.release(time, lease, None, Duration::ZERO)
    }

    /// Returns the job to the queue without using up an attempt; `waits_for` is shown to its owner.
    ///
    /// # Errors
    /// `Stale`.
    pub fn release(
        &mut self,
        time: Time,
        lease: &Lease,
        waits_for: Option<JobFailure>,
        delay: Duration,
    ) -> Result<AttemptOutcome, QueueError> {
        self.advance(time);
        let number = self.held(lease)?;
        if let Some(ended) = self.end_if_cancelled(time, number) {
            return Ok(ended);
        }
        self.requeue(number, waits_for, delay);
        Ok(AttemptOutcome { status: JobStatus::Queued })
    }

    /// The worker of this job has died: the attempt is used up.
    pub(super) fn lose_worker(&mut self, time: Time, number: u64) {
        self.totals.leases_lost += 1;
        self.changes.totals = true;
        let max_attempts = self.config.max_attempts;
        let Some(job) = self.jobs.get_mut(&number) else { return };
        self.changes.signals.push(((number, job.attempt), Signal::Lost));
        job.attempts_used += 1;
        if job.cancel_requested {
            self.end(time, number, JobStatus::Cancelled);
        } else if job.attempts_used < max_attempts {
            self.requeue(number, None, Duration::ZERO);
        } else {
            let message = format!("its worker died or stopped answering in each of {max_attempts} attempts");
            job.failure = Some(JobFailure { code: WORKER_LOST.to_owned(), message });
            self.end(time, number, JobStatus::Dead);
        }
    }

    /// The number of the job, if this lease holds it now.
    fn held(&self, lease: &Lease) -> Result<u64, QueueError> {
        match self.find(&lease.job) {
            Some(job) if job.attempt == lease.attempt && matches!(job.phase, Phase::Running { .. }) => {
                Ok(job.number)
            }
            _ => Err(stale(lease)),
        }
    }

    fn signal(&self, number: u64) -> Signal {
        let cancelled = self.jobs.get(&number).is_some_and(|job| job.cancel_requested);
        if cancelled { Signal::Cancel } else { Signal::Continue }
    }

    fn extend_lease(&mut self, number: u64) {
        let until = self.clock.now().saturating_add(millis(self.config.lease));
        if let Some(job) = self.jobs.get_mut(&number)
            && let Phase::Running { lease_until, .. } = &mut job.phase
        {
            self.leases.remove(&(*lease_until, number));
            *lease_until = until;
            self.leases.insert((until, number));
        }
    }

    fn end_if_cancelled(&mut self, time: Time, number: u64) -> Option<AttemptOutcome> {
        if !self.jobs.get(&number)?.cancel_requested {
            return None;
        }
        self.end(time, number, JobStatus::Cancelled);
        Some(AttemptOutcome { status: JobStatus::Cancelled })
    }

    /// Returns the job to the queue, in the order of its submission time.
    fn requeue(&mut self, number: u64, waits_for: Option<JobFailure>, delay: Duration) {
        self.leave_running(number);
        let now = self.clock.now();
        let Some(job) = self.jobs.get_mut(&number) else { return };
        let not_before = if delay.is_zero() { 0 } else { now.saturating_add(millis(delay)) };
        job.phase = Phase::Queued { not_before };
        job.progress = waits_for.as_ref().map(|_| Progress { stage: Stage::Waiting, step: 0, steps: 1 });
        job.failure = waits_for.or(job.failure.take());
        self.enter_waiting(number);
        self.emit(number, EventKind::State);
    }
}

fn stale(lease: &Lease) -> QueueError {
    QueueError::Stale { job: lease.job.clone(), attempt: lease.attempt }
}
