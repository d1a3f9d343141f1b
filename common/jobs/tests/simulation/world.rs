//! The world around the machine, and what must hold in it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use jiff::Timestamp;
use rand::{Rng, SeedableRng, rngs::StdRng};
use videosdgx_api::{JobId, JobStatus, Priority, Stage};
use videosdgx_jobs::{
    IdempotencyKey, JobFailure, JobOutput, Lease, Principal, Progress, QueueConfig, QueueError, Submission,
    Totals,
    state::{Job, Machine, Time},
};

/// How often what happened, over all seeds.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Seen {
    submitted: u64,
    refused_full: u64,
    key_conflicts: u64,
    completed: u64,
    failed: u64,
    cancelled: u64,
    dead: u64,
    stale_writes: u64,
    lost_leases: u64,
    failed_commits: u64,
    restarts: u64,
    clock_jumps: u64,
    forgotten: u64,
}

impl Seen {
    fn all(&mut self) -> [&mut u64; 13] {
        [
            &mut self.submitted,
            &mut self.refused_full,
            &mut self.key_conflicts,
            &mut self.completed,
            &mut self.failed,
            &mut self.cancelled,
            &mut self.dead,
            &mut self.stale_writes,
            &mut self.lost_leases,
            &mut self.failed_commits,
            &mut self.restarts,
            &mut self.clock_jumps,
            &mut self.forgotten,
        ]
    }

    pub(crate) fn add(&mut self, mut other: Self) {
        for (sum, more) in self.all().into_iter().zip(other.all()) {
            *sum += *more;
        }
    }

    pub(crate) fn is_varied(mut self) -> bool {
        self.all().into_iter().all(|count| *count > 0)
    }
}

/// What a driver would have on its disk.
#[derive(Default)]
struct Disk {
    jobs: BTreeMap<u64, Job>,
    totals: Totals,
    last_number: u64,
    /// Results that were ever visible, by job.
    results: HashMap<u64, u32>,
}

pub(crate) struct World {
    rng: StdRng,
    config: QueueConfig,
    machine: Machine,
    disk: Disk,
    time: Time,
    /// Every lease ever handed out; most of them stale.
    leases: Vec<Lease>,
    /// Jobs whose submission was acknowledged and that were not forgotten since.
    acknowledged: HashSet<JobId>,
    keys: HashMap<(Principal, String), (JobId, [u8; 32])>,
    next_id: u64,
    faults: bool,
    pub(crate) seen: Seen,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let config = QueueConfig {
            max_queued: rng.random_range(5..60),
            max_queued_per_principal: rng.random_range(3..40),
            max_attempts: rng.random_range(1..8),
            lease: Duration::from_millis(rng.random_range(1_000..40_000)),
            ..QueueConfig::default()
        };
        let time = Time { ticks: rng.random_range(-1_000_000..1_000_000), wall: Timestamp::UNIX_EPOCH };
        Self {
            machine: Machine::new(config.clone(), 0),
            rng,
            config,
            disk: Disk::default(),
            time,
            leases: Vec::new(),
            acknowledged: HashSet::new(),
            keys: HashMap::new(),
            next_id: 0,
            faults: true,
            seen: Seen::default(),
        }
    }

    pub(crate) fn step(&mut self) {
        self.pass_time();
        match self.rng.random_range(0..100) {
            0..=24 => self.submit(),
            25..=44 => self.claim(),
            45..=79 => self.write(),
            80..=86 => self.cancel(),
            87..=89 => self.forget(),
            99 if self.rng.random_ratio(1, 3) => self.restart(),
            _ => {
                self.machine.tick(self.time);
                self.commit();
            }
        }
        // Looking at every job after every step would take most of the time.
        if self.rng.random_ratio(1, 10) {
            self.check();
        }
    }

    /// Nothing goes wrong any more: every job has to come to its end.
    pub(crate) fn settle(&mut self) {
        self.faults = false;
        for _ in 0..100_000 {
            self.pass_time();
            match self.machine.claim(self.time) {
                Some(granted) => {
                    let lease = granted.lease;
                    let output = JobOutput { path: "v".to_owned(), bytes: 1, used: String::new() };
                    self.machine.complete(self.time, &lease, output).expect("the lease is fresh");
                }
                None => self.machine.tick(self.time),
            }
            assert!(self.commit());
            let counts = self.machine.counts();
            if counts.queued() + counts.running == 0 {
                self.check();
                assert!(self.machine.jobs().all(|job| job.status().is_terminal()));
                assert_eq!(self.machine.next_tick(), None);
                return;
            }
        }
        panic!("jobs that never end: {:?}", self.machine.counts());
    }

    fn pass_time(&mut self) {
        let mut gap = self.rng.random_range(0..4_000);
        if self.faults && self.rng.random_ratio(1, 40) {
            self.seen.clock_jumps += 1;
            gap = self.rng.random_range(-10_000_000_000..10_000_000_000);
            let wall = self.rng.random_range(0..4_000_000_000_000);
            self.time.wall = Timestamp::from_millisecond(wall).expect("in range");
        }
        self.time.ticks += gap;
    }

    fn principal(&mut self) -> Principal {
        Principal::new(format!("p{}", self.rng.random_range(0..4)))
    }

    fn submit(&mut self) {
        let principal = self.principal();
        let count = if self.rng.random_ratio(1, 5) { self.rng.random_range(0..8) } else { 1 };
        let submissions: Vec<Submission> = (0..count).map(|_| self.submission(&principal)).collect();
        let before = self.machine.jobs().count();
        match self.machine.submit(self.time, &submissions) {
            Ok(answers) => {
                assert_eq!(answers.len(), submissions.len());
                if !self.commit() {
                    return;
                }
                for (submission, answer) in submissions.into_iter().zip(answers) {
                    self.acknowledge(submission, &answer.id, answer.existing);
                }
            }
            Err(error) => {
                assert_eq!(self.machine.jobs().count(), before, "all or none");
                match error {
                    QueueError::QueueFull { retry_after, .. } => {
                        assert!(retry_after >= Duration::from_secs(1));
                        self.seen.refused_full += 1;
                    }
                    QueueError::IdempotencyConflict { .. } => self.seen.key_conflicts += 1,
                    other => panic!("{other}"),
                }
                self.commit();
            }
        }
    }

    fn submission(&mut self, principal: &Principal) -> Submission {
        self.next_id += 1;
        let keyed = self.rng.random_ratio(1, 3);
        let idempotency = keyed.then(|| IdempotencyKey {
            key: format!("k{}", self.rng.random_range(0..30)),
            body_hash: [u8::from(self.rng.random_ratio(1, 10)); 32],
        });
        Submission {
            id: format!("sim-{}", self.next_id).parse().expect("an id"),
            principal: principal.clone(),
            priority: Priority::new(self.rng.random_range(0..10)).expect("0 to 9"),
            body: String::new(),
            attachment: None,
            prompt_characters: 1,
            idempotency,
            warnings: Vec::new(),
        }
    }

    fn acknowledge(&mut self, submission: Submission, id: &JobId, existing: bool) {
        self.seen.submitted += u64::from(!existing);
        assert_eq!(existing, *id != submission.id);
        self.acknowledged.insert(id.clone());
        if let Some(IdempotencyKey { key, body_hash }) = submission.idempotency {
            let known = self.keys.entry((submission.principal, key)).or_insert((id.clone(), body_hash));
            assert_eq!(*known, (id.clone(), body_hash), "one key, one job, one body");
        }
    }

    fn claim(&mut self) {
        let granted = self.machine.claim(self.time);
        if self.commit()
            && let Some(granted) = granted
        {
            let fresh = self.leases.iter().filter(|lease| lease.job == granted.lease.job);
            assert!(
                fresh.into_iter().all(|old| old.attempt < granted.lease.attempt),
                "a token is given once"
            );
            self.leases.push(granted.lease);
        }
    }

    /// Some worker writes; mostly one that should not any more.
    fn write(&mut self) {
        if self.leases.is_empty() {
            return;
        }
        let newest = self.leases.len() - 1;
        let choice = if self.rng.random_ratio(3, 4) { newest.saturating_sub(4)..=newest } else { 0..=newest };
        let lease = self.leases[self.rng.random_range(choice)].clone();
        let held = |machine: &Machine| {
            machine
                .find(&lease.job)
                .is_some_and(|job| job.attempt == lease.attempt && job.status() == JobStatus::Running)
        };
        let held_before = held(&self.machine);
        let cancel = self.machine.find(&lease.job).is_some_and(|job| job.cancel_requested);
        let result = match self.rng.random_range(0..12) {
            0..=2 => self.machine.renew(self.time, &lease).map(|_| ()),
            3..=5 => {
                let progress =
                    Progress { stage: Stage::Denoising, step: self.rng.random_range(0..9), steps: 9 };
                self.machine.progress(self.time, &lease, progress).map(|_| ())
            }
            6 => self.machine.warn(self.time, &lease, "w".to_owned()).map(|_| ()),
            7 | 8 => {
                let output = JobOutput { path: format!("{}", lease.attempt), bytes: 1, used: String::new() };
                self.machine.complete(self.time, &lease, output).map(|ended| {
                    let expected = if cancel { JobStatus::Cancelled } else { JobStatus::Completed };
                    assert_eq!(ended.status, expected, "a cancellation that was answered wins");
                })
            }
            9 => {
                let failure = JobFailure { code: "c".to_owned(), message: "m".to_owned() };
                let retry = self.rng.random_ratio(3, 4);
                self.machine.fail(self.time, &lease, failure, retry).map(|_| ())
            }
            10 => {
                let delay = Duration::from_millis(self.rng.random_range(0..2) * 7_000);
                let waits_for = self
                    .rng
                    .random_ratio(1, 2)
                    .then(|| JobFailure { code: "storage_full".to_owned(), message: "m".to_owned() });
                self.machine.release(self.time, &lease, waits_for, delay).map(|_| ())
            }
            _ => self.machine.cancelled(self.time, &lease).map(|_| ()),
        };
        match result {
            Ok(()) => assert!(held_before, "a stale write was taken"),
            Err(QueueError::Stale { .. }) => {
                assert!(!held(&self.machine), "a good write was refused");
                self.seen.stale_writes += 1;
            }
            Err(other) => panic!("{other}"),
        }
        self.commit();
    }

    fn some_id(&mut self) -> JobId {
        format!("sim-{}", self.rng.random_range(0..=self.next_id)).parse().expect("an id")
    }

    fn cancel(&mut self) {
        let (principal, id) = (self.principal(), self.some_id());
        let before = self.disk_job(&id).map(|job| (job.principal.clone(), job.status()));
        let answer = self.machine.cancel(self.time, &principal, &id);
        match (before, &answer) {
            (Some((owner, _)), Err(QueueError::NotFound)) => assert_ne!(owner, principal),
            (None, answer) => assert_eq!(*answer, Err(QueueError::NotFound)),
            (Some((owner, status)), answer) => {
                assert_eq!(owner, principal, "somebody else's job");
                if status == JobStatus::Queued {
                    assert_eq!(*answer, Ok(JobStatus::Cancelled), "a waiting job is cancelled at once");
                }
            }
        }
        self.commit();
    }

    fn forget(&mut self) {
        let (principal, id) = (self.principal(), self.some_id());
        let forgotten = self.machine.forget(self.time, &principal, &id);
        if self.commit() && forgotten.is_ok() {
            self.seen.forgotten += 1;
        }
    }

    /// Makes the changes durable, or fails to and goes on from what is on the disk; whether it did.
    fn commit(&mut self) -> bool {
        let changes = self.machine.take_changes();
        if self.faults && !changes.is_empty() && self.rng.random_ratio(1, 30) {
            self.seen.failed_commits += 1;
            self.restore();
            self.commit_surely();
            return false;
        }
        for (number, forgotten) in &changes.forgotten {
            let job = self.disk.jobs.remove(number);
            // A lease may have ended in the very step that forgot the job; a waiting job cannot go.
            assert!(job.is_none_or(|job| job.status() != JobStatus::Queued), "only ended jobs are forgotten");
            self.acknowledged.remove(&forgotten.id);
            self.keys.retain(|_, (id, _)| *id != forgotten.id);
        }
        for number in &changes.touched {
            let new = self.machine.job(*number).expect("touched jobs are there").clone();
            if let Some(old) = self.disk.jobs.get(number) {
                check_change(old, &new, self.config.max_attempts);
            }
            self.count_end(*number, &new);
            self.disk.jobs.insert(*number, new);
        }
        for (number, _) in &changes.outputs {
            let results = self.disk.results.entry(*number).or_default();
            *results += 1;
            assert_eq!(*results, 1, "one visible result");
        }
        if changes.totals {
            self.disk.totals = self.machine.totals().clone();
            self.disk.last_number = self.machine.last_number();
        }
        true
    }

    fn count_end(&mut self, number: u64, new: &Job) {
        let was_ended = self.disk.jobs.get(&number).is_some_and(|old| old.status().is_terminal());
        if !was_ended {
            match new.status() {
                JobStatus::Completed => self.seen.completed += 1,
                JobStatus::Failed => self.seen.failed += 1,
                JobStatus::Cancelled => self.seen.cancelled += 1,
                JobStatus::Dead => self.seen.dead += 1,
                JobStatus::Queued | JobStatus::Running => {}
            }
        }
    }

    fn restore(&mut self) {
        let mut machine = Machine::new(self.config.clone(), self.rng.random_range(0..1_000_000));
        for job in self.disk.jobs.values() {
            machine.restore(job.clone());
        }
        machine.restore_totals(self.disk.totals.clone(), self.disk.last_number);
        machine.tick(self.time);
        self.machine = machine;
    }

    /// The process dies without a word, another takes over.
    fn restart(&mut self) {
        self.seen.restarts += 1;
        self.seen.lost_leases += self.machine.counts().running;
        self.restore();
        self.machine.expire_all_leases(self.time);
        self.commit_surely();
        assert_eq!(self.machine.counts().running, 0);
    }

    fn commit_surely(&mut self) {
        let faults = std::mem::replace(&mut self.faults, false);
        assert!(self.commit());
        self.faults = faults;
    }

    fn disk_job(&self, id: &JobId) -> Option<&Job> {
        self.disk.jobs.values().find(|job| job.id == *id)
    }

    fn check(&self) {
        let on_disk: HashSet<&JobId> = self.disk.jobs.values().map(|job| &job.id).collect();
        assert!(self.acknowledged.iter().all(|id| on_disk.contains(id)), "an acknowledged job is lost");
        assert_eq!(self.machine.jobs().count(), self.disk.jobs.len());
        let counts = self.machine.counts();
        for status in JobStatus::ALL {
            let jobs = self.machine.jobs().filter(|job| job.status() == status).count() as u64;
            assert_eq!(counts.of(status), jobs, "{status:?}");
        }
        assert!(counts.queued() <= self.config.max_queued as u64 + counts.running + self.leases.len() as u64);
        for job in self.machine.jobs() {
            let waiting = job.status() == JobStatus::Queued;
            assert_eq!(self.machine.position(&job.id) > 0, waiting);
            assert_eq!(job.finished_at.is_some(), job.status().is_terminal());
            assert!(job.attempts_used <= self.config.max_attempts && job.attempts_used <= job.attempt);
            if !job.status().is_terminal() {
                assert!(job.attempts_used < self.config.max_attempts, "a job that should have ended");
            }
        }
    }
}

/// What may become of a job from one commit to the next.
fn check_change(old: &Job, new: &Job, max_attempts: u32) {
    assert!(!old.status().is_terminal(), "nothing leaves a final state: {old:?} {new:?}");
    assert!(new.attempt >= old.attempt && new.attempts_used >= old.attempts_used, "attempts only grow");
    assert!(new.sequence >= old.sequence, "events only grow");
    assert_eq!((&old.id, &old.principal, old.enqueued), (&new.id, &new.principal, new.enqueued));
    assert!(!old.cancel_requested || new.cancel_requested, "a cancellation is not forgotten");
    if old.cancel_requested {
        assert!(
            matches!(new.status(), JobStatus::Running | JobStatus::Cancelled),
            "a cancelled job went on: {new:?}"
        );
    }
    if new.status() == JobStatus::Dead {
        assert_eq!(new.attempts_used, max_attempts);
    }
}
