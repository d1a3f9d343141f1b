//! Runs the queue's jobs one after the other, on a thread of its own.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use videosdgx_api::{Code, JobId};
use videosdgx_jobs::{Answer, AttemptOutcome, Claim, JobFailure, Lease, LeaseKeeper, QueueError, wait};
use videosdgx_model::{GENERATION_FAILED, LoaderError, ModelError, ModelLoader, failed_device};
use videosdgx_shell::{hide_folders, loader_code};

use crate::{
    Engine, EngineError, Interrupt, InterruptReason,
    attempt::{Attempt, Finished},
    engine::EngineLoad,
    retention,
    service::Service,
};

/// How long a claim waits before the worker checks for other work.
const CLAIM_WAIT: Duration = Duration::from_secs(30);
const AFTER_QUEUE_ERROR: Duration = Duration::from_secs(1);
/// Delay before a job that found no memory or disk space is tried again.
const SHORTAGE_DELAY: Duration = Duration::from_secs(2);
/// A job fails after waiting this long for memory. For disk space it waits as long as it takes.
const MEMORY_PATIENCE: Duration = Duration::from_secs(600);
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

/// Why an attempt did not produce a file.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The stored request, or a file beside it, cannot be read: no attempt will ever succeed.
    Unreadable(String),
    /// The model could not be loaded, or it panicked.
    Loader(LoaderError<ModelError>),
    /// The engine failed.
    Engine(Box<EngineError>),
}

impl From<LoaderError<ModelError>> for Fault {
    fn from(error: LoaderError<ModelError>) -> Self {
        match error {
            LoaderError::Load(error) => EngineError::from(ModelError::clone(&error)).into(),
            error => Self::Loader(error),
        }
    }
}

impl From<EngineError> for Fault {
    fn from(error: EngineError) -> Self {
        Self::Engine(Box::new(error))
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        EngineError::from(error).into()
    }
}

/// The worker of one service.
pub(crate) struct Worker<E: Engine> {
    service: Arc<Service>,
    engine: Arc<E>,
    loader: ModelLoader<EngineLoad<E>>,
    /// Since when a job has been waiting for memory.
    short: HashMap<JobId, Instant>,
}

impl<E: Engine> Worker<E> {
    pub(crate) fn new(service: Arc<Service>, engine: Arc<E>, loader: ModelLoader<EngineLoad<E>>) -> Self {
        Self { service, engine, loader, short: HashMap::new() }
    }

    /// Runs jobs until the service shuts down or the device has failed.
    pub(crate) fn run(mut self) {
        let name = format!("{}-{}", self.service.name(), std::process::id());
        let mut swept = Instant::now();
        retention::sweep_outputs(&self.service);
        while !self.service.shell.drain.has_begun() && failed_device().is_none() {
            match wait(self.service.queue.claim(&name, CLAIM_WAIT)) {
                Ok(Some(claim)) => self.work(&claim),
                Ok(None) => {}
                Err(QueueError::Closed) => break,
                Err(error) => {
                    tracing::error!(%error, "claim_failed");
                    pause_after_queue_error();
                }
            }
            if swept.elapsed() > SWEEP_EVERY {
                retention::sweep_outputs(&self.service);
                swept = Instant::now();
            }
        }
        self.service.running_job.worker_ended();
    }

    fn work(&mut self, claim: &Claim) {
        let service = Arc::clone(&self.service);
        let lease = &claim.lease;
        let span = tracing::info_span!(
            "job", job_id = %lease.job, attempt = lease.attempt, model = service.name()
        );
        let _entered = span.enter();
        tracing::info!(attempts_used = claim.attempts_used, "job_began");
        let interrupt = Interrupt::of_claim(claim.cancel.clone());
        service.running_job.began(lease.clone(), interrupt.clone());
        let keeper =
            LeaseKeeper::start(Arc::clone(&service.queue), claim, service.settings.queue.renew_every());
        if let Err(error) = &keeper {
            tracing::error!(%error, "lease_keeper_not_started");
        }
        let attempt = Attempt { service: &service, engine: &self.engine, loader: &self.loader };
        let ended = match attempt.run(claim, &interrupt) {
            Ok(finished) => self.complete(claim, finished),
            Err(fault) => {
                // On a full disk, this frees the space for the queue's own write.
                service.outputs.discard(&lease.job, lease.attempt);
                self.fail(lease, &interrupt, fault)
            }
        };
        drop(keeper);
        match ended {
            Ok(ended) => {
                tracing::info!(status = ended.status.as_str(), "attempt_ended");
                if ended.status.is_terminal() {
                    service.outputs.remove_scratch(&lease.job);
                    self.short.remove(&lease.job);
                }
            }
            Err(error) => tracing::warn!(%error, "attempt_not_counted"),
        }
        service.running_job.ended();
    }

    /// Reports the file, which has its final name, to the queue; removes it when the queue refuses it.
    fn complete(&self, claim: &Claim, finished: Finished) -> Result<AttemptOutcome, QueueError> {
        let name = finished.output.path.clone();
        let seconds = finished.seconds;
        let ended = self.retry_write(|| self.service.queue.complete(&claim.lease, finished.output.clone()));
        match &ended {
            Ok(ended) if ended.status == videosdgx_api::JobStatus::Completed => {
                self.service.metrics.observe_job(seconds, &finished.stages);
                tracing::info!(seconds, bytes = finished.output.bytes, "job_completed");
            }
            // The job ended otherwise (it was cancelled), so the file is not its result.
            Ok(_) => self.service.outputs.remove(&name),
            Err(QueueError::Stale { .. } | QueueError::NotFound) if !self.is_announced(claim, &name) => {
                self.service.outputs.remove(&name);
            }
            // Whether the queue stored it is unknown: the sweep at the next start decides.
            Err(_) => {}
        }
        ended
    }

    /// Whether the queue has `name` as the job's result although it returned an error (the write was durable).
    fn is_announced(&self, claim: &Claim, name: &str) -> bool {
        match wait(self.service.queue.find(&claim.lease.job)) {
            Ok(record) => record.and_then(|record| record.output).is_some_and(|output| output.path == name),
            Err(_) => true,
        }
    }

    fn fail(
        &mut self,
        lease: &Lease,
        interrupt: &Interrupt,
        fault: Fault,
    ) -> Result<AttemptOutcome, QueueError> {
        let queue = Arc::clone(&self.service.queue);
        let give_back = || self.retry_write(|| queue.release(lease, None, Duration::ZERO));
        match fault {
            Fault::Engine(error) => match *error {
                EngineError::Cancelled => match interrupt.reason() {
                    Some(InterruptReason::Cancelled) => self.retry_write(|| queue.cancelled(lease)),
                    Some(InterruptReason::Draining) => give_back(),
                    Some(InterruptReason::LeaseLost) => {
                        Err(QueueError::Stale { job: lease.job.clone(), attempt: lease.attempt })
                    }
                    None => self.give_up(
                        lease,
                        GENERATION_FAILED,
                        "the engine stopped although nothing had cancelled the job",
                        true,
                    ),
                },
                error @ EngineError::StorageFull(_) => {
                    self.wait_for(lease, Code::StorageFull, &error.to_string())
                }
                error => {
                    let retry = error.is_worth_another_attempt();
                    let ended = self.give_up(lease, error.code(), &error.to_string(), retry);
                    if let EngineError::Model(error) = &error {
                        // The process ends; the queue knows of the attempt.
                        error.report_if_device_failed();
                    }
                    ended
                }
            },
            Fault::Loader(LoaderError::Closed) => give_back(),
            Fault::Loader(error @ LoaderError::InsufficientMemory { .. }) => {
                let since = *self.short.entry(lease.job.clone()).or_insert_with(Instant::now);
                if since.elapsed() > MEMORY_PATIENCE {
                    self.give_up(lease, Code::InsufficientMemory.as_str(), &error.to_string(), false)
                } else {
                    self.wait_for(lease, Code::InsufficientMemory, &error.to_string())
                }
            }
            Fault::Loader(error) => self.give_up(lease, &loader_code(&error), &error.to_string(), true),
            Fault::Unreadable(reason) => self.give_up(lease, Code::Internal.as_str(), &reason, false),
        }
    }

    /// A temporary shortage: the job says what it waits for and uses up no attempt, while others run.
    fn wait_for(&self, lease: &Lease, code: Code, reason: &str) -> Result<AttemptOutcome, QueueError> {
        let code = code.as_str();
        tracing::warn!(code, reason, "job_waits");
        let waits_for = JobFailure { code: code.to_owned(), message: reason.to_owned() };
        self.retry_write(|| self.service.queue.release(lease, Some(waits_for.clone()), SHORTAGE_DELAY))
    }

    fn give_up(
        &self,
        lease: &Lease,
        code: &str,
        message: &str,
        retry: bool,
    ) -> Result<AttemptOutcome, QueueError> {
        tracing::warn!(code, message, retry, "attempt_failed");
        let failure = JobFailure { code: code.to_owned(), message: hide_folders(message).into_owned() };
        self.retry_write(|| self.service.queue.fail(lease, failure.clone(), retry))
    }

    /// Repeats a write to the queue until its storage works again; the lease is renewed meanwhile.
    fn retry_write(&self, tell: impl Fn() -> Answer<AttemptOutcome>) -> Result<AttemptOutcome, QueueError> {
        loop {
            match wait(tell()) {
                Err(error @ (QueueError::StorageFull | QueueError::Storage(_)))
                    if !self.service.shell.drain.has_begun() =>
                {
                    tracing::error!(%error, "queue_cannot_write");
                    pause_after_queue_error();
                }
                answer => return answer,
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the worker has a thread of its own")]
fn pause_after_queue_error() {
    std::thread::sleep(AFTER_QUEUE_ERROR);
}
