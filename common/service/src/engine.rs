//! The interface between serving and inference.

use std::{io::ErrorKind, sync::Arc};

use videosdgx_api::{Code, GenerateRequest, Lora, ModelDescription, Problem, ResolvedRequest};
use videosdgx_model::{Load, ModelError};

use crate::{Cancelled, GenerateContext};

/// What a video service implements. Methods without `Model` never touch weights.
pub trait Engine: Send + Sync + 'static {
    /// The loaded weights. Only the inference thread sees it: `Send`, not `Sync`.
    type Model: Send + 'static;

    /// Name of the checkpoint, its defaults and limits; reads configuration files only and is called at each request, so
    /// that a checkpoint which appears while the service runs is seen.
    ///
    /// # Errors
    /// [`ModelError::CheckpointMissing`] or [`ModelError::CheckpointInvalid`].
    fn describe(&self) -> Result<ModelDescription, ModelError>;

    /// Fills in the model's defaults and checks every limit: [`crate::limits::resolve`], then what only this model knows.
    /// Nothing invalid is ever enqueued. Runs on a thread that may block.
    ///
    /// # Errors
    /// The problem for the response.
    fn resolve(&self, request: &GenerateRequest) -> Result<ResolvedRequest, Problem>;

    /// The LoRAs that requests can name, sorted by name; default: none. Reads headers only.
    ///
    /// # Errors
    /// As [`Engine::describe`].
    fn loras(&self) -> Result<Vec<Lora>, ModelError> {
        Ok(Vec::new())
    }

    /// Upper bound of the bytes that loading and running need, for the memory budget.
    ///
    /// # Errors
    /// As [`Engine::describe`].
    fn declared_peak(&self) -> Result<u64, ModelError>;

    /// Brings the weights into memory, on the inference thread.
    ///
    /// # Errors
    /// Why the model cannot be loaded; the process continues and the next use tries again.
    fn load(&self) -> Result<Self::Model, ModelError>;

    /// Identifies the checkpoint that `model` was loaded from, as [`ModelDescription::fingerprint`] does: when the installed
    /// checkpoint has another fingerprint, the model is loaded anew before the next job.
    fn fingerprint(&self, model: &Self::Model) -> String;

    /// Called on the inference thread after the model was dropped, or after a load that failed: returns what the model's
    /// library keeps, such as a GPU's memory.
    fn model_dropped(&self) {}

    /// Runs one job on the inference thread; writes the finished file to [`GenerateContext::output_path`].
    ///
    /// # Errors
    /// [`EngineError`] documents what then happens to the job. A panic counts as [`ModelError::Failed`].
    fn generate(
        &self,
        model: &mut Self::Model,
        job: &ResolvedRequest,
        context: &GenerateContext,
    ) -> Result<(), EngineError>;
}

/// Adapts an engine to the [`videosdgx_model::ModelLoader`].
#[derive(Debug)]
pub(crate) struct EngineLoad<E>(pub(crate) Arc<E>);

impl<E: Engine> Load for EngineLoad<E> {
    type Model = E::Model;
    type Error = ModelError;

    fn declared_peak(&self) -> Result<u64, ModelError> {
        self.0.declared_peak()
    }

    fn load(&self) -> Result<E::Model, ModelError> {
        self.0.load().inspect_err(ModelError::report_if_device_failed)
    }

    fn model_dropped(&self) {
        self.0.model_dropped();
    }
}

/// Why a job ended without a video.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The model cannot be used. [`ModelError::Failed`] is tried again, up to the limit of attempts, and so is
    /// [`ModelError::DeviceFailed`], by the next process; the others fail the job.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The disk is full or read-only; the job waits and is tried again without using up an attempt.
    #[error("{words} {0}", words = storage_words(.0))]
    StorageFull(#[source] std::io::Error),
    /// The model computed NaN or infinity; another attempt would do the same. The text names the stage and what to change.
    #[error("{0}")]
    Numerical(String),
    /// The job was stopped: the error of [`GenerateContext::check_cancelled`], passed on with `?`.
    #[error("cancelled")]
    Cancelled,
    /// Fails the job without another attempt.
    #[error(transparent)]
    InvalidInput(Problem),
}

impl EngineError {
    /// A failure after which another attempt may succeed, from an error or a message.
    pub fn failed(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Model(ModelError::failed(source))
    }

    /// The stable code that is stored with the job.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Model(error) => error.code(),
            Self::Cancelled => "cancelled",
            Self::InvalidInput(problem) => &problem.code,
            Self::StorageFull(_) => Code::StorageFull.as_str(),
            Self::Numerical(_) => Code::NumericalFailure.as_str(),
        }
    }

    /// Whether another attempt could succeed.
    #[must_use]
    pub fn is_worth_another_attempt(&self) -> bool {
        matches!(self, Self::Model(ModelError::Failed(_) | ModelError::DeviceFailed(_)))
    }
}

impl From<Cancelled> for EngineError {
    fn from(_: Cancelled) -> Self {
        Self::Cancelled
    }
}

/// Files that an engine writes: a disk that is full or read-only is distinguished from other failures.
impl From<std::io::Error> for EngineError {
    fn from(error: std::io::Error) -> Self {
        if is_storage_shortage(&error) { Self::StorageFull(error) } else { Self::failed(error) }
    }
}

/// Whether a write failed because the disk is full, a quota is reached or the file system is read-only: what an operator
/// puts right while jobs wait.
#[must_use]
pub fn is_storage_shortage(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::ReadOnlyFilesystem)
}

fn storage_words(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::ReadOnlyFilesystem => "the disk for videos and intermediate results is read-only:",
        ErrorKind::QuotaExceeded => "the quota for videos and intermediate results is used up:",
        _ => "the disk for videos and intermediate results is full:",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_full_or_read_only_is_no_failure_of_the_job() {
        for (kind, word) in [
            (ErrorKind::StorageFull, "full"),
            (ErrorKind::QuotaExceeded, "quota"),
            (ErrorKind::ReadOnlyFilesystem, "read-only"),
        ] {
            let error = EngineError::from(std::io::Error::from(kind));
            assert!(matches!(error, EngineError::StorageFull(_)), "{kind:?}");
            assert_eq!((error.code(), error.is_worth_another_attempt()), ("storage_full", false));
            assert!(error.to_string().contains(word), "{error}");
        }
        let other = EngineError::from(std::io::Error::from(ErrorKind::BrokenPipe));
        assert!(other.is_worth_another_attempt());
    }
}
