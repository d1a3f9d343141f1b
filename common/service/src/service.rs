//! The state that the handlers of a video service share.

use std::sync::Arc;

use videosdgx_api::{
    GenerateRequest, LoaderReport, Lora, ModelDescription, Problem, QueueStatus, ResolvedRequest,
};
use videosdgx_jobs::{Counts, Queue, Totals};
use videosdgx_model::ModelError;
use videosdgx_shell::{HandlerResult, ServiceApi, ServiceInfo, Shell};

use crate::{
    Engine, VideoSettings, estimate, metrics::JobMetrics, openapi, outputs::Outputs,
    problem_response::queue_failure, routes, running_job::RunningJob,
};

/// An engine without its type parameter, as the routes use it.
pub(crate) trait ErasedEngine: Send + Sync {
    fn describe(&self) -> Result<ModelDescription, ModelError>;
    fn resolve(&self, request: &GenerateRequest) -> Result<ResolvedRequest, Problem>;
    fn loras(&self) -> Result<Vec<Lora>, ModelError>;
}

impl<E: Engine> ErasedEngine for E {
    fn describe(&self) -> Result<ModelDescription, ModelError> {
        Engine::describe(self)
    }

    fn resolve(&self, request: &GenerateRequest) -> Result<ResolvedRequest, Problem> {
        Engine::resolve(self, request)
    }

    fn loras(&self) -> Result<Vec<Lora>, ModelError> {
        Engine::loras(self)
    }
}

/// A video service as the shell's routes see it.
pub(crate) struct VideoServiceInfo(pub(crate) Arc<dyn ErasedEngine>);

impl ServiceInfo for VideoServiceInfo {
    fn checkpoint(&self) -> Result<String, ModelError> {
        self.0.describe().map(|model| model.checkpoint)
    }

    fn api(&self) -> &'static ServiceApi {
        &routes::API
    }

    fn document(&self, name: &str) -> utoipa::openapi::OpenApi {
        openapi::document(name)
    }
}

/// One video service in one process: the shell, and a queue of jobs.
pub(crate) struct Service {
    pub(crate) shell: Arc<Shell>,
    pub(crate) engine: Arc<dyn ErasedEngine>,
    pub(crate) settings: VideoSettings,
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) outputs: Outputs,
    pub(crate) metrics: JobMetrics,
    pub(crate) running_job: RunningJob,
    /// Dropped last, which signals to the receiver that the state folder is free.
    #[expect(dead_code, reason = "it is there to be dropped")]
    pub(crate) gone: tokio::sync::oneshot::Sender<std::convert::Infallible>,
}

impl Service {
    pub(crate) fn name(&self) -> &str {
        self.shell.name()
    }

    pub(crate) async fn queue_status(&self) -> HandlerResult<QueueStatus> {
        let counts = self.queue.counts().await.map_err(queue_failure)?;
        let totals = self.queue.totals().await.map_err(queue_failure)?;
        Ok(self.queue_status_of(&counts, &totals, &self.shell.loader.report()))
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
            workers: self.settings.queue.workers,
            capacity: self.settings.queue.max_queued as u64,
            estimated_wait_seconds: estimate::seconds_until_done(
                counts.queued() + 1,
                counts.running,
                totals,
                loader,
            ),
            draining: self.shell.drain.has_begun(),
        }
    }
}
