//! The model loader without its type parameters, as the routes use it.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use videosdgx_api::{Code, LoaderReport, Problem};
use videosdgx_model::{
    Freed, GENERATION_FAILED, Load, LoaderConfig, LoaderError, MemoryBudget, ModelError, ModelLoader,
};

use crate::{ServiceConfig, hide_folders};

/// A [`ModelLoader`] without its type parameters.
pub trait Loader: Send + Sync {
    /// The state now.
    fn report(&self) -> LoaderReport;
    /// Loads the model if needed.
    fn warm_up(&self) -> BoxFuture<'static, Result<(), Problem>>;
    /// Waits for the uses under way, at most `wait_up_to`, then drops the model.
    fn unload(&self, wait_up_to: Duration) -> BoxFuture<'static, Result<Freed, Problem>>;
    /// Refuses waiting and new uses.
    fn close(&self);
}

impl<L: Load<Error = ModelError>> Loader for ModelLoader<L> {
    fn report(&self) -> LoaderReport {
        let mut report = self.snapshot().report(loader_code);
        report.error = report.error.map(|error| hide_folders(&error).into_owned());
        report
    }

    fn warm_up(&self) -> BoxFuture<'static, Result<(), Problem>> {
        ModelLoader::warm_up(self).map(|result| result.map_err(|error| loader_problem(&error))).boxed()
    }

    fn unload(&self, wait_up_to: Duration) -> BoxFuture<'static, Result<Freed, Problem>> {
        ModelLoader::unload(self, wait_up_to)
            .map(|result| result.map_err(|error| loader_problem(&error)))
            .boxed()
    }

    fn close(&self) {
        ModelLoader::close(self);
    }
}

/// Loader settings of `config`, with a budget over the system's memory.
#[must_use]
pub fn loader_config(config: &ServiceConfig) -> LoaderConfig {
    LoaderConfig::new(&config.name)
        .with_auto_unload_minutes(config.auto_unload_minutes)
        .with_budget(Arc::new(MemoryBudget::of_system(config.memory_reserve_bytes)))
        .with_release(Arc::new(return_free_pages))
}

/// Stable code of a loader's failure.
#[must_use]
pub fn loader_code(error: &LoaderError<ModelError>) -> String {
    match error {
        LoaderError::Load(error) => error.code().to_owned(),
        LoaderError::InsufficientMemory { .. } => Code::InsufficientMemory.as_str().to_owned(),
        LoaderError::Busy { .. } => Code::ModelBusy.as_str().to_owned(),
        LoaderError::Panicked(_) => GENERATION_FAILED.to_owned(),
        LoaderError::Closed => Code::Draining.as_str().to_owned(),
    }
}

/// A loader's failure as a problem.
#[must_use]
pub fn loader_problem(error: &LoaderError<ModelError>) -> Problem {
    let detail = error.to_string();
    match error {
        LoaderError::Load(error) => Problem::from(error.as_ref()),
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
fn return_free_pages() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `malloc_trim` takes the allocator's own locks and touches only free memory.
    unsafe {
        libc::malloc_trim(0);
    }
}
