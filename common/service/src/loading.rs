//! The loader as the routes see it, whatever the engine's types are.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use videosdgx_api::{Code, LoaderReport, Problem};
use videosdgx_model::{Freed, Load, LoaderConfig, LoaderError, MemoryBudget, ModelLoader};

use crate::{Engine, EngineError, ServiceConfig};

/// An engine as something to load.
#[derive(Debug)]
pub(crate) struct EngineLoad<E>(pub(crate) Arc<E>);

impl<E: Engine> Load for EngineLoad<E> {
    type Model = E::Model;
    type Error = EngineError;

    fn declared_peak(&self) -> Result<u64, EngineError> {
        self.0.declared_peak()
    }

    fn load(&self) -> Result<E::Model, EngineError> {
        self.0.load()
    }
}

/// A loader without its types.
pub(crate) trait Loader: Send + Sync {
    fn report(&self) -> LoaderReport;
    fn warm_up(&self) -> BoxFuture<'static, Result<(), Problem>>;
    fn unload(&self, wait_up_to: Duration) -> BoxFuture<'static, Result<Freed, Problem>>;
    fn close(&self);
}

impl<E: Engine> Loader for ModelLoader<EngineLoad<E>> {
    fn report(&self) -> LoaderReport {
        self.snapshot().report(code)
    }

    fn warm_up(&self) -> BoxFuture<'static, Result<(), Problem>> {
        ModelLoader::warm_up(self).map(|result| result.map_err(|error| problem(&error))).boxed()
    }

    fn unload(&self, wait_up_to: Duration) -> BoxFuture<'static, Result<Freed, Problem>> {
        ModelLoader::unload(self, wait_up_to).map(|result| result.map_err(|error| problem(&error))).boxed()
    }

    fn close(&self) {
        ModelLoader::close(self);
    }
}

/// The loader of `engine`, with a budget over the system's memory.
pub(crate) fn loader<E: Engine>(
    engine: &Arc<E>,
    config: &ServiceConfig,
) -> std::io::Result<ModelLoader<EngineLoad<E>>> {
    let loader_config = LoaderConfig::new(&config.name)
        .with_auto_unload_minutes(config.auto_unload_minutes)
        .with_budget(Arc::new(MemoryBudget::of_system(config.memory_reserve_bytes)))
        .with_release(Arc::new(give_pages_back));
    ModelLoader::new(EngineLoad(Arc::clone(engine)), loader_config)
}

/// Stable code of a loader's failure.
pub(crate) fn code(error: &LoaderError<EngineError>) -> String {
    match error {
        LoaderError::Load(error) => error.code(),
        LoaderError::InsufficientMemory { .. } => Code::InsufficientMemory.as_str().to_owned(),
        LoaderError::Busy { .. } => Code::ModelBusy.as_str().to_owned(),
        LoaderError::Panicked(_) => crate::engine::GENERATION_FAILED.to_owned(),
        LoaderError::Closed => Code::Draining.as_str().to_owned(),
    }
}

fn problem(error: &LoaderError<EngineError>) -> Problem {
    let detail = error.to_string();
    match error {
        LoaderError::Load(error) => Problem::from(EngineError::clone(error)),
        LoaderError::InsufficientMemory { needed, available } => {
            let limit = serde_json::json!({ "needed_bytes": needed, "available_bytes": available });
            Problem::new(Code::InsufficientMemory, detail).with_limit(limit).with_retry_after(30)
        }
        LoaderError::Busy { .. } => Problem::new(Code::ModelBusy, detail).with_retry_after(10),
        LoaderError::Panicked(_) => Problem::new(Code::Internal, detail),
        LoaderError::Closed => {
            Problem::new(Code::Draining, "the service is shutting down; try again soon").with_retry_after(5)
        }
    }
}

/// glibc keeps freed small blocks; this returns their pages to the system.
fn give_pages_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `malloc_trim` takes the allocator's own locks and touches only free memory.
    unsafe {
        libc::malloc_trim(0);
    }
}
