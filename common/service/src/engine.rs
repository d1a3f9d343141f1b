//! The interface between serving and inference.

use std::sync::Arc;

use videosdgx_api::{Code, GenerateRequest, ModelDescription, Problem, ResolvedRequest};
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
        self.0.load()
    }
}

/// Why a job ended without a video.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The model cannot be used. [`ModelError::Failed`] is tried again, up to the limit of attempts; the others fail the job.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The disk is full; the job waits and is tried again without using up an attempt.
    #[error("no space left: {0}")]
    StorageFull(#[source] std::io::Error),
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
        }
    }

    /// Whether another attempt could succeed.
    #[must_use]
    pub fn is_worth_another_attempt(&self) -> bool {
        matches!(self, Self::Model(ModelError::Failed(_)))
    }
}

impl From<Cancelled> for EngineError {
    fn from(_: Cancelled) -> Self {
        Self::Cancelled
    }
}

/// Files that an engine writes: a full disk is distinguished from other failures.
impl From<std::io::Error> for EngineError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::StorageFull(error),
            _ => Self::failed(error),
        }
    }
}
