//! The state machine: passing of time, indexes and restoring.

use std::time::Duration;

use jiff::Timestamp;
use videosdgx_api::{EventKind, InferenceRecord, JobStatus};

use super::{Clock, Job, Machine, Phase, Time, machine::millis};
use crate::{Forgotten, Totals};

impl Machine {
    /// Advances the time: ends expired leases, makes delayed jobs claimable, forgets old jobs.
    pub fn tick(&mut self, time: Time) {
        self.advance(time);
        self.retain(time.wall);
    }

    /// Time until the next change that needs no call; at most [`Clock::TICK`] while there are leases.
    #[must_use]
    pub fn next_tick(&self) -> Option<Duration> {
        let now = self.clock.now();
        let lease = self.leases.first().map(|(until, _)| (*until - now).min(Clock::TICK));
        let delayed = self.delayed.first().map(|(until, _)| (*until - now).min(Clock::TICK));
        let due = lease.into_iter().chain(delayed).min()?;
        Some(Duration::from_millis(u64::try_from(due).unwrap_or(0)))
    }

    /// Restores a stored job. A running one gets a new lease, because its worker may still be running.
    pub fn restore(&mut self, mut job: Job) {
        self.clock.at_least(job.enqueued);
        self.next_number = self.next_number.max(job.number + 1);
        if let Phase::Running { lease_until, .. } = &mut job.phase {
            *lease_until = self.clock.now().saturating_add(millis(self.config.lease));
        }
        self.insert(job);
    }

    /// Restores the totals and the highest job number.
    pub fn restore_totals(&mut self, totals: Totals, last_number: u64) {
        self.totals = totals;
        self.next_number = self.next_number.max(last_number + 1);
    }

    /// Ends every lease at once: all workers have ended with the process that owned the queue before.
    pub fn expire_all_leases(&mut self, time: Time) {
        self.advance(time);
        let running: Vec<u64> = self.leases.iter().map(|(_, number)| *number).collect();
        for number in running {
            self.lose_worker(time, number);
        }
    }

    pub(super) fn advance(&mut self, time: Time) {
        let now = self.clock.advance(time);
        while let Some((until, number)) = self.delayed.first().copied().filter(|(until, _)| *until <= now) {
            self.delayed.remove(&(until, number));
            if let Some(job) = self.jobs.get_mut(&number) {
                job.phase = Phase::Queued { not_before: 0 };
                self.order.insert(&job.principal, number, job.enqueued, job.priority);
            }
        }
        while let Some((_, number)) = self.leases.first().copied().filter(|(until, _)| *until <= now) {
            self.lose_worker(time, number);
        }
    }

    fn retain(&mut self, wall: Timestamp) {
        let oldest = wall.as_millisecond().saturating_sub(millis(self.config.retention.max_age));
        while let Some((at, number)) = self.ended.first().copied() {
            if at >= oldest && self.ended.len() <= self.config.retention.max_ended {
                break;
            }
            self.drop_job(number);
        }
    }

    /// Ends a job. Afterwards it does not change; it can only be forgotten.
    pub(super) fn end(&mut self, time: Time, number: u64, status: JobStatus) {
        let now = self.clock.now();
        let Some(job) = self.jobs.get(&number) else { return };
        let seconds = match job.phase {
            Phase::Ended(_) => return,
            Phase::Queued { .. } => {
                self.leave_order(number);
                self.leave_waiting(number);
                0.0
            }
            Phase::Running { started, .. } => {
                self.leave_running(number);
                (now - started).max(0) as f64 / 1_000.0
            }
        };
        let Some(job) = self.jobs.get_mut(&number) else { return };
        job.phase = Phase::Ended(status);
        job.finished_at = Some(time.wall);
        let record = InferenceRecord {
            job_id: job.id.clone(),
            status,
            duration_seconds: seconds,
            prompt_characters: job.prompt_characters,
            completed_at: time.wall,
        };
        self.ended.insert((time.wall.as_millisecond(), number));
        *self.ended_count(status) += 1;
        self.totals.add(record);
        self.changes.totals = true;
        self.emit(number, EventKind::State);
    }

    /// Removes a job from all indexes.
    pub(super) fn drop_job(&mut self, number: u64) -> Option<Forgotten> {
        let job = self.jobs.remove(&number)?;
        self.numbers.remove(&job.id);
        if let Some(idempotency) = &job.idempotency {
            self.keys.remove(&(job.principal.clone(), idempotency.key.clone()));
        }
        if let (Phase::Ended(status), Some(at)) = (job.phase, job.finished_at) {
            self.ended.remove(&(at.as_millisecond(), number));
            let count = self.ended_count(status);
            *count = count.saturating_sub(1);
        }
        let forgotten = Forgotten { id: job.id, output_path: job.output_path };
        self.changes.touched.remove(&number);
        self.changes.forgotten.push((number, forgotten.clone()));
        Some(forgotten)
    }

    /// Adds a job to all indexes.
    pub(super) fn insert(&mut self, job: Job) {
        let number = job.number;
        self.numbers.insert(job.id.clone(), number);
        if let Some(idempotency) = &job.idempotency {
            self.keys.insert((job.principal.clone(), idempotency.key.clone()), number);
        }
        let (phase, finished_at) = (job.phase, job.finished_at);
        self.jobs.insert(number, job);
        match phase {
            Phase::Queued { .. } => self.enter_waiting(number),
            Phase::Running { lease_until, .. } => {
                self.leases.insert((lease_until, number));
                self.counts.running += 1;
            }
            Phase::Ended(status) => {
                self.ended.insert((finished_at.map_or(0, Timestamp::as_millisecond), number));
                *self.ended_count(status) += 1;
            }
        }
    }

    pub(super) fn enter_waiting(&mut self, number: u64) {
        let Some(job) = self.jobs.get(&number) else { return };
        match job.phase {
            Phase::Queued { not_before } if not_before > self.clock.now() => {
                self.delayed.insert((not_before, number));
            }
            _ => self.order.insert(&job.principal, number, job.enqueued, job.priority),
        }
        *self.waiting.entry(job.principal.clone()).or_default() += 1;
        self.counts.queued_by_priority[usize::from(job.priority.get())] += 1;
    }

    fn leave_order(&mut self, number: u64) {
        if let Some(job) = self.jobs.get(&number)
            && let Phase::Queued { not_before } = job.phase
            && !self.delayed.remove(&(not_before, number))
        {
            self.order.remove(&job.principal, number, job.enqueued, job.priority);
        }
    }

    /// Removes a job from the indexes of waiting jobs, except the order of claims.
    pub(super) fn leave_waiting(&mut self, number: u64) {
        let Some(job) = self.jobs.get(&number) else { return };
        if let Some(count) = self.waiting.get_mut(&job.principal) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.waiting.remove(&job.principal);
            }
        }
        let queued = &mut self.counts.queued_by_priority[usize::from(job.priority.get())];
        *queued = queued.saturating_sub(1);
    }

    pub(super) fn leave_running(&mut self, number: u64) {
        if let Some(job) = self.jobs.get(&number)
            && let Phase::Running { lease_until, .. } = job.phase
            && self.leases.remove(&(lease_until, number))
        {
            self.counts.running = self.counts.running.saturating_sub(1);
        }
    }

    fn ended_count(&mut self, status: JobStatus) -> &mut u64 {
        match status {
            JobStatus::Completed => &mut self.counts.completed,
            JobStatus::Cancelled => &mut self.counts.cancelled,
            JobStatus::Dead => &mut self.counts.dead,
            JobStatus::Failed | JobStatus::Queued | JobStatus::Running => &mut self.counts.failed,
        }
    }
}
