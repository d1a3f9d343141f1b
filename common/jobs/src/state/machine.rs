//! The state machine: operations of owners.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use videosdgx_api::{EventKind, JobId, JobStatus};

use super::{Changes, Clock, Job, Phase, Time, order::FairOrder};
use crate::{
    Counts, Forgotten, Lease, Principal, QueueConfig, QueueError, QueueLimit, Signal, Submission, Submitted,
    Totals,
};

/// A job claimed by [`Machine::claim`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantedClaim {
    /// The job's number.
    pub number: u64,
    /// The right to write to it.
    pub lease: Lease,
    /// How long the lease lasts from now.
    pub lease_for: Duration,
}

/// The state machine: all stored jobs, and the rules for them.
#[derive(Debug, Clone)]
pub struct Machine {
    pub(super) config: QueueConfig,
    pub(super) clock: Clock,
    pub(super) jobs: HashMap<u64, Job>,
    pub(super) numbers: HashMap<JobId, u64>,
    pub(super) keys: HashMap<(Principal, String), u64>,
    /// Waiting jobs of each principal, delayed ones among them.
    pub(super) waiting: HashMap<Principal, usize>,
    pub(super) order: FairOrder,
    /// Waiting jobs that may not be claimed yet, by (not before, number).
    pub(super) delayed: BTreeSet<(i64, u64)>,
    /// Running jobs by (lease end, number).
    pub(super) leases: BTreeSet<(i64, u64)>,
    /// Ended jobs by (wall milliseconds of the end, number).
    pub(super) ended: BTreeSet<(i64, u64)>,
    pub(super) counts: Counts,
    pub(super) totals: Totals,
    pub(super) next_number: u64,
    pub(super) changes: Changes,
}

impl Machine {
    /// Empty, at queue time `now` in milliseconds.
    #[must_use]
    pub fn new(config: QueueConfig, now: i64) -> Self {
        Self {
            order: FairOrder::new(millis(config.ageing_step)),
            clock: Clock::new(now),
            config,
            jobs: HashMap::new(),
            numbers: HashMap::new(),
            keys: HashMap::new(),
            waiting: HashMap::new(),
            delayed: BTreeSet::new(),
            leases: BTreeSet::new(),
            ended: BTreeSet::new(),
            counts: Counts::default(),
            totals: Totals::default(),
            next_number: 1,
            changes: Changes::default(),
        }
    }

    /// What changed since the last call.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// A job by its number.
    #[must_use]
    pub fn job(&self, number: u64) -> Option<&Job> {
        self.jobs.get(&number)
    }

    /// A job by its name.
    #[must_use]
    pub fn find(&self, id: &JobId) -> Option<&Job> {
        self.jobs.get(self.numbers.get(id)?)
    }

    /// All jobs, in no particular order.
    pub fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values()
    }

    /// Number of jobs in each state.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Totals since the queue was created.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The highest job number so far.
    #[must_use]
    pub fn last_number(&self) -> u64 {
        self.next_number - 1
    }

    /// Position in the queue: 1 = next; 0 = not waiting.
    #[must_use]
    pub fn position(&self, id: &JobId) -> u64 {
        let Some(job) = self.find(id) else { return 0 };
        if !matches!(job.phase, Phase::Queued { .. }) {
            return 0;
        }
        1 + self.order.ahead(&job.principal, job.number, job.enqueued, job.priority, self.claim_every())
    }

    /// Enqueues all submissions or none.
    ///
    /// # Errors
    /// `QueueFull`, `IdempotencyConflict`, `DuplicateId`; then nothing has changed.
    pub fn submit(&mut self, time: Time, submissions: &[Submission]) -> Result<Vec<Submitted>, QueueError> {
        self.advance(time);
        let known = self.check_submissions(submissions)?;
        let mut answers = Vec::with_capacity(submissions.len());
        for (submission, known) in submissions.iter().zip(known) {
            // An earlier submission of the same batch may have the same key.
            let known = known.or_else(|| self.known_key(submission));
            let (number, existing) = match known {
                Some(number) => (number, true),
                None => (self.enqueue(time, submission), false),
            };
            if let Some(job) = self.jobs.get(&number) {
                answers.push(Submitted {
                    id: job.id.clone(),
                    status: job.status(),
                    existing,
                    queue_position: 0,
                });
            }
        }
        for answer in &mut answers {
            answer.queue_position = self.position(&answer.id);
        }
        Ok(answers)
    }

    /// Cancels a waiting job at once, a running one when its worker checks.
    ///
    /// # Errors
    /// `NotFound`, `AlreadyEnded`.
    pub fn cancel(&mut self, time: Time, principal: &Principal, id: &JobId) -> Result<JobStatus, QueueError> {
        self.advance(time);
        let number = self.owned(principal, id)?.number;
        let Some(job) = self.jobs.get_mut(&number) else { return Err(QueueError::NotFound) };
        match job.phase {
            Phase::Ended(JobStatus::Cancelled) => Ok(JobStatus::Cancelled),
            Phase::Ended(status) => Err(QueueError::AlreadyEnded { status }),
            Phase::Queued { .. } => {
                self.end(time, number, JobStatus::Cancelled);
                Ok(JobStatus::Cancelled)
            }
            Phase::Running { .. } => {
                if !job.cancel_requested {
                    job.cancel_requested = true;
                    self.changes.touched.insert(number);
                    self.changes.signals.push(((number, job.attempt), Signal::Cancel));
                }
                Ok(JobStatus::Running)
            }
        }
    }

    /// Forgets an ended job.
    ///
    /// # Errors
    /// `NotFound`, `NotEnded`.
    pub fn forget(&mut self, time: Time, principal: &Principal, id: &JobId) -> Result<Forgotten, QueueError> {
        self.advance(time);
        let job = self.owned(principal, id)?;
        let (number, status) = (job.number, job.status());
        if !status.is_terminal() {
            return Err(QueueError::NotEnded { status });
        }
        self.drop_job(number).ok_or(QueueError::NotFound)
    }

    /// A job of `principal`.
    ///
    /// # Errors
    /// `NotFound`, also for jobs of other principals.
    pub fn owned(&self, principal: &Principal, id: &JobId) -> Result<&Job, QueueError> {
        self.find(id).filter(|job| job.principal == *principal).ok_or(QueueError::NotFound)
    }

    /// For each submission, the job that already exists for its idempotency key. Changes nothing.
    fn check_submissions(&self, submissions: &[Submission]) -> Result<Vec<Option<u64>>, QueueError> {
        let mut known = Vec::with_capacity(submissions.len());
        let mut fresh_ids: HashMap<&JobId, ()> = HashMap::new();
        let mut fresh_keys: HashMap<(&Principal, &str), (&JobId, [u8; 32])> = HashMap::new();
        let mut fresh: HashMap<&Principal, usize> = HashMap::new();
        for submission in submissions {
            if let Some(idempotency) = &submission.idempotency {
                if let Some(job) = self.known_key(submission).and_then(|number| self.jobs.get(&number)) {
                    same_body(
                        &job.id,
                        job.idempotency.as_ref().map(|known| known.body_hash),
                        idempotency.body_hash,
                    )?;
                    known.push(Some(job.number));
                    continue;
                }
                let key = (&submission.principal, idempotency.key.as_str());
                if let Some((id, hash)) = fresh_keys.get(&key) {
                    same_body(id, Some(*hash), idempotency.body_hash)?;
                    known.push(None);
                    continue;
                }
                fresh_keys.insert(key, (&submission.id, idempotency.body_hash));
            }
            if self.numbers.contains_key(&submission.id) || fresh_ids.insert(&submission.id, ()).is_some() {
                return Err(QueueError::DuplicateId { job: submission.id.clone() });
            }
            *fresh.entry(&submission.principal).or_default() += 1;
            known.push(None);
        }
        self.check_room(&fresh)?;
        Ok(known)
    }

    fn check_room(&self, fresh: &HashMap<&Principal, usize>) -> Result<(), QueueError> {
        let full =
            |scope, limit| QueueError::QueueFull { scope, limit, retry_after: self.room_expected_in() };
        let all: usize = fresh.values().sum();
        if all > 0 && self.waiting_in_all() + all > self.config.max_queued {
            return Err(full(QueueLimit::Queue, self.config.max_queued));
        }
        for (principal, new) in fresh {
            let own = self.waiting.get(*principal).copied().unwrap_or(0);
            let limit = self.share(own);
            if own + new > limit {
                return Err(full(QueueLimit::Principal, limit));
            }
        }
        Ok(())
    }

    /// Maximum number of waiting jobs of a principal that has `own` now: as many as places would be left for others, at least
    /// one.
    fn share(&self, own: usize) -> usize {
        let left_by_others = (self.config.max_queued + own).saturating_sub(self.waiting_in_all());
        (left_by_others / 2).clamp(1, self.config.max_queued_per_principal.max(1))
    }

    fn known_key(&self, submission: &Submission) -> Option<u64> {
        let key = submission.idempotency.as_ref()?.key.clone();
        self.keys.get(&(submission.principal.clone(), key)).copied()
    }

    fn waiting_in_all(&self) -> usize {
        self.order.len() + self.delayed.len()
    }

    /// Estimated milliseconds between claims, from the durations of completed jobs.
    fn claim_every(&self) -> i64 {
        let seconds = self.totals.duration_seconds_avg().unwrap_or(10.0).clamp(0.001, 86_400.0);
        (seconds * 1_000.0) as i64 / i64::from(self.config.workers.max(1))
    }

    fn room_expected_in(&self) -> Duration {
        Duration::from_secs(u64::try_from(self.claim_every() / 1_000).unwrap_or(1).clamp(1, 600))
    }

    fn enqueue(&mut self, time: Time, submission: &Submission) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        let job = Job {
            number,
            id: submission.id.clone(),
            principal: submission.principal.clone(),
            priority: submission.priority,
            idempotency: submission.idempotency.clone(),
            prompt_characters: submission.prompt_characters,
            enqueued: self.clock.now(),
            phase: Phase::Queued { not_before: 0 },
            attempt: 0,
            attempts_used: 0,
            cancel_requested: false,
            progress: None,
            sequence: 0,
            failure: None,
            created_at: time.wall,
            started_at: None,
            finished_at: None,
            output_path: None,
        };
        self.insert(job);
        self.changes.warnings.extend(submission.warnings.iter().map(|warning| (number, warning.clone())));
        self.totals.submitted += 1;
        self.totals.prompt_characters_sum += submission.prompt_characters;
        self.changes.totals = true;
        self.emit(number, EventKind::State);
        number
    }

    /// Appends an event with the job's current state, and marks the job as changed.
    pub(super) fn emit(&mut self, number: u64, kind: EventKind) {
        if let Some(job) = self.jobs.get_mut(&number) {
            let event = job.next_event(kind);
            self.changes.events.push((number, event));
            self.changes.touched.insert(number);
        }
    }
}

fn same_body(job: &JobId, known: Option<[u8; 32]>, sent: [u8; 32]) -> Result<(), QueueError> {
    if known == Some(sent) { Ok(()) } else { Err(QueueError::IdempotencyConflict { job: job.clone() }) }
}

/// A setting in milliseconds; `i64::MAX` if it is longer.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
