//! What every service has round its own work, whatever that is: configuration, identity, request ids, problem documents, bounded
//! bodies, the loader, metrics of the process, the documentation, draining, and `main`. A video service adds its queue of jobs,
//! a text service its streams; each adds its own routes and says what they are by a [`Face`].

pub mod body;
mod drain;
mod edge;
mod identity;
mod loading;
mod main_loop;
mod metrics;
mod openapi;
mod probe;
mod problem_response;
mod query;
pub mod routes;
mod server;
mod telemetry;

use std::sync::Arc;

use actix_web::web;
use videosdgx_auth::Verifier;
use videosdgx_model::Host;

use crate::{EngineError, ServiceConfig, StartError};

pub use drain::Drain;
pub use edge::RequestId;
pub(crate) use edge::edge;
pub use identity::{Admin, Caller, Generate, Needs, Read, authenticate};
pub(crate) use loading::code as loader_code;
pub use loading::{Loader, loader_config, loader_problem};
pub use main_loop::{Stops, main};
pub use metrics::{OPENMETRICS, Process, ShellMetrics, set_counter, wants_json};
pub use openapi::{Access, Policy, complete_document};
pub use problem_response::{Answered, Failure, PROBLEM_JSON};
pub use query::Query;
pub use routes::{Operation, operation};
pub use server::{bind, close_server, serve, system, verifier};
pub use telemetry::start_logging;

/// Program version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the shell's own routes ask of the service that they are part of.
pub trait Face: Send + Sync + 'static {
    /// Name of the checkpoint; reads configuration files only, and may block.
    ///
    /// # Errors
    /// [`EngineError::CheckpointMissing`] or [`EngineError::CheckpointInvalid`].
    fn checkpoint(&self) -> Result<String, EngineError>;

    /// Every operation, as `GET /` lists them.
    fn operations(&self) -> &'static [Operation];

    /// The OpenAPI document of the service `name`.
    fn document(&self, name: &str) -> utoipa::openapi::OpenApi;

    /// Whether problems at `path` are written as OpenAI's error object.
    fn speaks_openai(&self, path: &str) -> bool {
        let _ = path;
        false
    }
}

/// One service in one process, as far as all services are alike.
pub struct Shell {
    /// What it was told from outside.
    pub config: ServiceConfig,
    /// What sets it apart.
    pub face: Arc<dyn Face>,
    /// The model.
    pub loader: Arc<dyn Loader>,
    /// Who is asking.
    pub verifier: Verifier,
    /// The machine.
    pub host: Host,
    /// Figures.
    pub metrics: ShellMetrics,
    /// Whether it is shutting down.
    pub drain: Drain,
}

impl std::fmt::Debug for Shell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shell").field("name", &self.config.name).finish_non_exhaustive()
    }
}

impl Shell {
    /// The shell of a service.
    ///
    /// # Errors
    /// When the keys cannot be used.
    pub fn new(
        config: ServiceConfig,
        face: Arc<dyn Face>,
        loader: Arc<dyn Loader>,
    ) -> Result<Self, StartError> {
        Ok(Self {
            verifier: verifier(&config.auth)?,
            host: Host::probe(),
            metrics: ShellMetrics::new(&config.name),
            drain: Drain::default(),
            config,
            face,
            loader,
        })
    }

    /// The service's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Refuses new work once the service is shutting down.
    ///
    /// # Errors
    /// 503 `draining`.
    pub fn refuse_when_draining(&self) -> Answered<()> {
        if self.drain.has_begun() { Err(Failure::draining()) } else { Ok(()) }
    }

    /// The process as the metrics show it.
    ///
    /// # Errors
    /// When the service stops meanwhile.
    pub async fn process(self: Arc<Self>) -> Answered<Process> {
        let shared = Arc::clone(&self);
        Ok(Process {
            loader: self.loader.report(),
            memory: off_the_reactor(move || shared.host.memory()).await?,
            draining: self.drain.has_begun(),
        })
    }
}

/// Runs what may block (files, decoding) off the threads that serve.
///
/// # Errors
/// 500 when it panicked or the service stops meanwhile.
pub async fn off_the_reactor<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Answered<T> {
    web::block(work).await.map_err(Failure::internal)
}
