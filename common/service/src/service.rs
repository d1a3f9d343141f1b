//! What all routes share.

use std::sync::Arc;

use actix_web::web;
use videosdgx_api::{GenerateRequest, LoaderReport, ModelDescription, Problem, QueueStatus, ResolvedRequest};
use videosdgx_auth::Verifier;
use videosdgx_jobs::{Counts, Queue, Totals};
use videosdgx_model::Host;

use crate::{
    Engine, EngineError, ServiceConfig,
    drain::Drain,
    estimate,
    loading::Loader,
    metrics::Metrics,
    outputs::Outputs,
    problem_response::{Answered, Failure},
};

/// An engine without its types: what routes may ask of it.
pub(crate) trait Front: Send + Sync {
    fn describe(&self) -> Result<ModelDescription, EngineError>;
    fn resolve(&self, request: &GenerateRequest) -> Result<ResolvedRequest, Problem>;
}

impl<E: Engine> Front for E {
    fn describe(&self) -> Result<ModelDescription, EngineError> {
        Engine::describe(self)
    }

    fn resolve(&self, request: &GenerateRequest) -> Result<ResolvedRequest, Problem> {
        Engine::resolve(self, request)
    }
}

/// One service in one process.
pub(crate) struct Service {
    pub(crate) config: ServiceConfig,
    pub(crate) engine: Arc<dyn Front>,
    pub(crate) loader: Arc<dyn Loader>,
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) verifier: Verifier,
    pub(crate) host: Host,
    pub(crate) outputs: Outputs,
    pub(crate) metrics: Metrics,
    pub(crate) drain: Drain,
    /// Dropped last: who waits at the other end knows that the state folder is free.
    #[expect(dead_code, reason = "it is there to be dropped")]
    pub(crate) gone: tokio::sync::oneshot::Sender<std::convert::Infallible>,
}

/// Program version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Service {
    pub(crate) fn name(&self) -> &str {
        &self.config.name
    }

    /// Refuses new work once the service is shutting down.
    pub(crate) fn refuse_when_draining(&self) -> Answered<()> {
        if self.drain.has_begun() { Err(Failure::draining()) } else { Ok(()) }
    }

    pub(crate) async fn queue_status(&self) -> Answered<QueueStatus> {
        let counts = self.queue.counts().await?;
        let totals = self.queue.totals().await?;
        Ok(self.queue_status_of(&counts, &totals, &self.loader.report()))
    }

    fn queue_status_of(&self, counts: &Counts, totals: &Totals, loader: &LoaderReport) -> QueueStatus {
        QueueStatus {
            queued: counts.queued(),
            processing: counts.running,
            completed: counts.completed,
            failed: counts.failed,
            cancelled: counts.cancelled,
            dead: counts.dead,
            queued_by_priority: counts.queued_by_priority.to_vec(),
            workers: self.config.queue.workers,
            capacity: self.config.queue.max_queued as u64,
            estimated_wait_seconds: estimate::seconds_until_done(
                counts.queued() + 1,
                counts.running,
                totals,
                loader,
            ),
            draining: self.drain.has_begun(),
        }
    }
}

/// Runs what may block (files, decoding) off the threads that serve.
pub(crate) async fn off_the_reactor<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Answered<T> {
    web::block(work).await.map_err(Failure::internal)
}
