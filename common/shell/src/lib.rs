//! What every HTTP service has: configuration, identity, request ids, problem documents, bounded bodies, the model loader, metrics
//! of the process, API documentation, graceful shutdown, and `main`. A service adds its own routes and describes itself by a
//! [`ServiceInfo`]. Links neither libtorch nor a database.

pub mod body;
mod config;
mod drain;
mod edge;
mod error;
mod identity;
mod loading;
mod main_loop;
mod metrics;
mod openapi;
mod paths;
mod probe;
mod problem_response;
mod query;
pub mod routes;
mod server;
mod service_api;
mod static_body;
mod telemetry;
mod variables;

use std::sync::Arc;

use actix_web::web;
use videosdgx_auth::Verifier;
use videosdgx_model::{Host, ModelError};

pub use config::{ConfigError, LogFormat, ServiceConfig};
pub use drain::Drain;
pub use edge::RequestId;
pub(crate) use edge::edge;
pub use error::StartError;
pub use identity::{Admin, Caller, Generate, Read, RequiredScope, authenticate};
pub use loading::{Loader, loader_code, loader_config, loader_problem};
pub use main_loop::{Stoppable, main};
pub use metrics::{OPENMETRICS, ProcessStatus, ShellMetrics, set_counter, wants_json};
pub use paths::hide_folders;
pub use problem_response::{Failure, HandlerResult, PROBLEM_JSON};
pub use query::Query;
pub use server::{bind, close_server, serve, system, verifier};
pub use service_api::{RouteHandler, ServiceApi};
pub use telemetry::start_logging;
pub use variables::{Variables, environment};

/// Program version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the shell's routes need to know about the service that they belong to.
pub trait ServiceInfo: Send + Sync + 'static {
    /// Name of the checkpoint; reads configuration files only, and may block.
    ///
    /// # Errors
    /// [`ModelError::CheckpointMissing`] or [`ModelError::CheckpointInvalid`].
    fn checkpoint(&self) -> Result<String, ModelError>;

    /// The routes of the service with their handlers.
    fn api(&self) -> &'static ServiceApi;

    /// The OpenAPI document of the service `name`.
    fn document(&self, name: &str) -> utoipa::openapi::OpenApi;
}

/// The state that the handlers of every service share; one per process.
pub struct Shell {
    /// Configuration, as read at start.
    pub config: ServiceConfig,
    /// Checkpoint, routes and document of the service.
    pub info: Arc<dyn ServiceInfo>,
    /// Loads and unloads the model.
    pub loader: Arc<dyn Loader>,
    /// Verifies callers' tokens.
    pub verifier: Verifier,
    /// Memory, CPUs and GPUs of the machine.
    pub host: Host,
    /// The metrics registry.
    pub metrics: ShellMetrics,
    /// Shutdown state and open responses.
    pub drain: Drain,
    /// Bytes of request bodies in memory.
    pub bodies: body::HeldBodies,
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
        info: Arc<dyn ServiceInfo>,
        loader: Arc<dyn Loader>,
    ) -> Result<Self, StartError> {
        Ok(Self {
            verifier: verifier(&config.auth)?,
            host: Host::probe(),
            metrics: ShellMetrics::new(&config.name),
            drain: Drain::default(),
            bodies: body::HeldBodies::new(&config),
            config,
            info,
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
    pub fn refuse_when_draining(&self) -> HandlerResult<()> {
        if self.drain.has_begun() { Err(Failure::draining()) } else { Ok(()) }
    }

    /// Loader state and memory at this moment, for metrics.
    ///
    /// # Errors
    /// 500 when the service stops meanwhile.
    pub async fn process(self: Arc<Self>) -> HandlerResult<ProcessStatus> {
        let shared = Arc::clone(&self);
        Ok(ProcessStatus {
            loader: self.loader.report(),
            memory: run_blocking(move || shared.host.memory()).await?,
            held_bodies: self.bodies.held(),
            draining: self.drain.has_begun(),
        })
    }
}

/// Runs work that may block (files, decoding) on the thread pool for blocking work, off the threads that serve requests.
///
/// # Errors
/// 500 when it panicked or the service stops meanwhile.
pub async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> HandlerResult<T> {
    web::block(work).await.map_err(Failure::internal)
}

#[doc(hidden)]
pub mod __private {
    //! Names that the expansion of [`crate::routes!`] uses.
    pub use actix_web;
    pub use pastey::paste;
    pub use utoipa;
}
