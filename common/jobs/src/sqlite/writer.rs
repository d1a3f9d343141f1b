//! The writing thread: the only owner of the machine and of the writing connection. Commands that came in while the last
//! transaction was being synced share the next one (group commit); no answer is sent before it is on the disk.

use std::{
    collections::{HashMap, VecDeque},
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use futures::channel::mpsc;
use jiff::{SignedDuration, Timestamp};
use videosdgx_api::{JobEvent, JobStatus};

use super::{
    command::{AfterCommit, Command, Context, Reply, Subscription, Waiter},
    owner::OwnerLock,
    store::{NewRequests, Store},
};
use crate::{
    CancelSignal, Claim, EventStream, ForgottenHook, Lease, QueueConfig, QueueError, Signal, StorageError,
    state::{Changes, GrantedClaim, Machine, Time},
};

/// Most commands in one transaction.
const MAX_BATCH: usize = 512;
/// How often old jobs are looked for when nothing else happens.
const IDLE_TICK: Duration = Duration::from_secs(60);
/// Interval between attempts to restore after a failed transaction.
const REPAIR_EVERY: Duration = Duration::from_millis(500);

/// A claim that has not been sent to its worker yet.
struct Grant {
    granted: GrantedClaim,
    worker: String,
    reply: Reply<Option<Claim>>,
    cancel: CancelSignal,
}

#[derive(Default)]
struct Batch {
    requests: NewRequests,
    grants: Vec<Grant>,
    subscriptions: Vec<Subscription>,
    answers: Vec<AfterCommit>,
}

pub(super) struct Writer {
    store: Store,
    config: QueueConfig,
    /// `None` after a failed transaction, until it is restored.
    machine: Option<Machine>,
    epoch: Instant,
    waiters: VecDeque<Waiter>,
    claims_closed: bool,
    /// Signals of the current claims, by (job, attempt).
    cancels: HashMap<(u64, u32), CancelSignal>,
    listeners: HashMap<u64, Vec<mpsc::Sender<JobEvent>>>,
    /// Claims whose worker had stopped waiting before it received them.
    unreceived: Vec<Lease>,
    on_forgotten: Option<ForgottenHook>,
    _lock: OwnerLock,
}

impl Writer {
    /// Restores the stored queue and ends the leases of the previous owner.
    pub(super) fn open(
        store: Store,
        config: QueueConfig,
        on_forgotten: Option<ForgottenHook>,
        lock: OwnerLock,
    ) -> Result<Self, QueueError> {
        let mut writer = Self {
            store,
            config,
            machine: None,
            epoch: Instant::now(),
            waiters: VecDeque::new(),
            claims_closed: false,
            cancels: HashMap::new(),
            listeners: HashMap::new(),
            unreceived: Vec::new(),
            on_forgotten,
            _lock: lock,
        };
        let mut machine = writer.restore()?;
        machine.expire_all_leases(writer.time());
        machine.tick(writer.time());
        writer.machine = Some(machine);
        writer.commit(Batch::default())?;
        Ok(writer)
    }

    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        loop {
            let first = match commands.recv_timeout(self.sleep()) {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut batch = Batch::default();
            let restored =
                self.ensure_machine().inspect_err(|error| tracing::error!(%error, "queue_not_restored"));
            let mut next = first;
            let mut taken = 0;
            while let Some(command) = next {
                if matches!(command, Command::Shutdown) {
                    // Earlier commands are still committed; their callers have been sent a failure.
                    let _ = self.commit(batch);
                    return;
                }
                self.take(command, &restored, &mut batch);
                taken += 1;
                next = if taken < MAX_BATCH { commands.try_recv().ok() } else { None };
            }
            self.upkeep(taken < MAX_BATCH);
            self.grant_waiters(&mut batch);
            if let Err(error) = self.commit(batch) {
                tracing::error!(%error, "queue_commit_failed");
            }
        }
    }

    fn time(&self) -> Time {
        Time {
            ticks: i64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(i64::MAX),
            wall: Timestamp::now(),
        }
    }

    fn sleep(&self) -> Duration {
        let Some(machine) = &self.machine else { return REPAIR_EVERY };
        let now = Instant::now();
        let waiter = self.waiters.iter().map(|waiter| waiter.until.saturating_duration_since(now)).min();
        let unreceived = (!self.unreceived.is_empty()).then_some(Duration::ZERO);
        machine
            .next_tick()
            .into_iter()
            .chain(waiter)
            .chain(unreceived)
            .min()
            .unwrap_or(IDLE_TICK)
            .min(IDLE_TICK)
    }

    fn restore(&self) -> Result<Machine, QueueError> {
        let mut machine = self.store.restore(self.config.clone(), Timestamp::now().as_millisecond())?;
        // Initialises the machine's clock with the present ticks, so that time passes from now on.
        machine.tick(self.time());
        Ok(machine)
    }

    fn ensure_machine(&mut self) -> Result<(), QueueError> {
        if self.machine.is_none() {
            let machine = self.restore()?;
            // Only claims that were stored are still valid.
            self.cancels.retain(|(number, attempt), cancel| {
                let holds = machine
                    .job(*number)
                    .is_some_and(|job| job.attempt == *attempt && job.status() == JobStatus::Running);
                if !holds {
                    cancel.raise(Signal::Lost);
                }
                holds
            });
            self.machine = Some(machine);
        }
        Ok(())
    }

    fn take(&mut self, command: Command, restored: &Result<(), QueueError>, batch: &mut Batch) {
        let time = self.time();
        match command {
            Command::Step(step) => {
                let waiting_workers = self.waiters.len() as u64;
                let context = match (&mut self.machine, restored) {
                    (Some(machine), _) => {
                        Ok(Context { machine, time, requests: &mut batch.requests, waiting_workers })
                    }
                    (None, Err(error)) => Err(error.clone()),
                    (None, Ok(())) => Err(QueueError::Closed),
                };
                batch.answers.push(step(context));
            }
            Command::Claim(waiter) if self.claims_closed => drop(waiter.reply.send(Ok(None))),
            Command::Claim(waiter) => self.waiters.push_back(waiter),
            Command::Subscribe(subscription) => batch.subscriptions.push(subscription),
            Command::CloseClaims => {
                self.claims_closed = true;
                for waiter in self.waiters.drain(..) {
                    drop(waiter.reply.send(Ok(None)));
                }
            }
            Command::Shutdown => {}
        }
    }

    fn upkeep(&mut self, caught_up: bool) {
        let time = self.time();
        if let Some(machine) = &mut self.machine {
            for lease in self.unreceived.drain(..) {
                // Refused only when the attempt has already ended.
                let _ = machine.release(time, &lease, None, Duration::ZERO);
            }
            // Renewals that wait in the channel come before leases are found to have ended.
            if caught_up {
                machine.tick(time);
            }
        }
        let now = Instant::now();
        for waiter in std::mem::take(&mut self.waiters) {
            if waiter.reply.is_canceled() {
                continue;
            }
            let served = self.machine.as_ref().is_some_and(Machine::has_claimable);
            if waiter.until <= now && !served {
                drop(waiter.reply.send(Ok(None)));
            } else {
                self.waiters.push_back(waiter);
            }
        }
    }

    fn grant_waiters(&mut self, batch: &mut Batch) {
        let time = self.time();
        let Some(machine) = &mut self.machine else { return };
        while machine.has_claimable()
            && let Some(waiter) = self.waiters.pop_front()
        {
            if waiter.reply.is_canceled() {
                continue;
            }
            let Some(granted) = machine.claim(time) else { return self.waiters.push_front(waiter) };
            let cancel = CancelSignal::default();
            self.cancels.insert((granted.number, granted.lease.attempt), cancel.clone());
            batch.grants.push(Grant { granted, worker: waiter.worker, reply: waiter.reply, cancel });
        }
    }

    /// Makes the batch durable, then answers callers and notifies listeners. After an error the machine is discarded.
    fn commit(&mut self, batch: Batch) -> Result<(), QueueError> {
        let Some(machine) = &mut self.machine else {
            batch.refuse(&QueueError::Storage(StorageError::new("the job database cannot be read")));
            return Ok(());
        };
        let changes = machine.take_changes();
        let claimed: Vec<u64> = batch.grants.iter().map(|grant| grant.granted.number).collect();
        let written = if changes.is_empty() && claimed.is_empty() {
            Ok(Vec::new())
        } else {
            self.store.write(machine, &changes, &batch.requests, &claimed)
        };
        let requests = match written {
            Ok(requests) => requests,
            Err(error) => {
                self.machine = None;
                batch.refuse(&error);
                return Err(error);
            }
        };
        for answer in batch.answers {
            answer(Ok(()));
        }
        self.announce(changes);
        for (grant, (body, attachment)) in batch.grants.into_iter().zip(requests) {
            self.hand_out(grant, body, attachment);
        }
        for subscription in batch.subscriptions {
            self.subscribe(subscription);
        }
        Ok(())
    }

    fn announce(&mut self, changes: Changes) {
        for ((number, attempt), signal) in changes.signals {
            if let Some(cancel) = self.cancels.get(&(number, attempt)) {
                cancel.raise(signal);
            }
            if signal == Signal::Lost {
                tracing::warn!(number, attempt, "lease_lost");
            }
        }
        for (number, event) in changes.events {
            let ended = event.status.is_terminal();
            if event.status != JobStatus::Running {
                self.cancels.remove(&(number, event.attempt));
            }
            if let Some(listeners) = self.listeners.get_mut(&number) {
                // A listener that is too slow loses the stream, and resumes from the stored events.
                listeners.retain_mut(|listener| listener.try_send(event.clone()).is_ok());
                if ended || listeners.is_empty() {
                    self.listeners.remove(&number);
                }
            }
        }
        for (number, forgotten) in changes.forgotten {
            self.listeners.remove(&number);
            if let Some(hook) = &self.on_forgotten {
                hook(&forgotten);
            }
        }
    }

    fn hand_out(&mut self, grant: Grant, body: String, attachment: Option<Vec<u8>>) {
        let GrantedClaim { number, lease, lease_for } = grant.granted;
        let Some(job) = self.machine.as_ref().and_then(|machine| machine.job(number)) else { return };
        tracing::info!(job_id = %lease.job, attempt = lease.attempt, worker = grant.worker, "job_claimed");
        let lease_for = SignedDuration::try_from(lease_for).unwrap_or(SignedDuration::MAX);
        let claim = Claim {
            lease: lease.clone(),
            principal: job.principal.clone(),
            priority: job.priority,
            body,
            attachment,
            lease_until: Timestamp::now().saturating_add(lease_for).unwrap_or(Timestamp::MAX),
            attempts_used: job.attempts_used,
            cancel: grant.cancel,
        };
        if grant.reply.send(Ok(Some(claim))).is_err() {
            self.unreceived.push(lease);
        }
    }

    fn subscribe(&mut self, subscription: Subscription) {
        let Subscription { principal, id, after, reply } = subscription;
        let Some(machine) = &self.machine else { return };
        let stream = machine.owned(&principal, &id).and_then(|job| {
            let replay = self.store.events(job.number, &job.id, after)?;
            let live = (!job.status().is_terminal()).then(|| {
                let (listener, live) = mpsc::channel(EventStream::BUFFER);
                let listeners = self.listeners.entry(job.number).or_default();
                listeners.retain(|known| !known.is_closed());
                listeners.push(listener);
                live
            });
            Ok(EventStream::new(replay, live))
        });
        drop(reply.send(stream));
    }
}

impl Batch {
    fn refuse(self, error: &QueueError) {
        for answer in self.answers {
            answer(Err(error.clone()));
        }
        for grant in self.grants {
            drop(grant.reply.send(Err(error.clone())));
        }
        for subscription in self.subscriptions {
            drop(subscription.reply.send(Err(error.clone())));
        }
    }
}
