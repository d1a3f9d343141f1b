//! The wall between serving and inference.

use std::{path::PathBuf, sync::Arc};

use videosdgx_api::{Code, GenerateRequest, ModelDescription, Problem, ResolvedRequest};
use videosdgx_model::Load;

use crate::{Cancelled, GenerateContext};

/// Code of jobs whose engine failed without a more exact reason.
pub(crate) const GENERATION_FAILED: &str = "generation_failed";

/// What a video service plugs into the skeleton. Methods without `Model` never touch weights.
pub trait Engine: Send + Sync + 'static {
    /// The loaded weights. Only the inference thread sees it: `Send`, not `Sync`.
    type Model: Send + 'static;

    /// Name of the checkpoint, its defaults and limits; reads configuration files only and is called at each request, so
    /// that a checkpoint which appears while the service runs is seen.
    ///
    /// # Errors
    /// [`EngineError::CheckpointMissing`] or [`EngineError::CheckpointInvalid`].
    fn describe(&self) -> Result<ModelDescription, EngineError>;

    /// Fills in the model's defaults and checks every limit: [`crate::limits::resolve`], then what only this model knows.
    /// Nothing invalid is ever enqueued. Runs on a thread that may block.
    ///
    /// # Errors
    /// The problem to answer with.
    fn resolve(&self, request: &GenerateRequest) -> Result<ResolvedRequest, Problem>;

    /// Most bytes that loading and running will need, for the memory budget.
    ///
    /// # Errors
    /// As [`Engine::describe`].
    fn declared_peak(&self) -> Result<u64, EngineError>;

    /// Brings the weights into memory, on the inference thread.
    ///
    /// # Errors
    /// Why it cannot; the process goes on and the next use tries again.
    fn load(&self) -> Result<Self::Model, EngineError>;

    /// Runs one job on the inference thread; writes the finished file to [`GenerateContext::output_path`].
    ///
    /// # Errors
    /// See [`EngineError`] for what becomes of the job. A panic counts as [`EngineError::Failed`].
    fn generate(
        &self,
        model: &mut Self::Model,
        job: &ResolvedRequest,
        context: &GenerateContext,
    ) -> Result<(), EngineError>;
}

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

/// Why an engine could not do what it was asked.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EngineError {
    /// Nothing is there. Answered with 503 `checkpoint_missing`.
    #[error("there is no checkpoint: {} is missing; {hint}", .path.display())]
    CheckpointMissing {
        /// The folder or file that was looked for.
        path: PathBuf,
        /// The command that fetches it.
        hint: String,
    },
    /// Something is there that cannot be used. Answered with 503 `checkpoint_invalid`.
    #[error("the checkpoint cannot be used: {}: {reason}", .file.display())]
    CheckpointInvalid {
        /// The file at fault.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The allocator or the device refused; the job fails with `insufficient_memory`.
    #[error("out of memory: {0}")]
    OutOfMemory(String),
    /// The disk is full; the job waits and is tried again without using up an attempt.
    #[error("no space left: {0}")]
    StorageFull(String),
    /// [`GenerateContext::check_cancelled`] said so: hand its error on with `?`.
    #[error("cancelled")]
    Cancelled,
    /// Fails the job without another attempt.
    #[error(transparent)]
    InvalidInput(Problem),
    /// The job is tried again, up to the cap of attempts.
    #[error("{0}")]
    Failed(String),
}

impl EngineError {
    /// The stable code that a job (or an answer) carries.
    #[must_use]
    pub fn code(&self) -> String {
        match self {
            Self::CheckpointMissing { .. } => Code::CheckpointMissing.as_str().to_owned(),
            Self::CheckpointInvalid { .. } => Code::CheckpointInvalid.as_str().to_owned(),
            Self::OutOfMemory(_) => Code::InsufficientMemory.as_str().to_owned(),
            Self::Cancelled => "cancelled".to_owned(),
            Self::InvalidInput(problem) => problem.code.clone(),
            Self::StorageFull(_) => Code::StorageFull.as_str().to_owned(),
            Self::Failed(_) => GENERATION_FAILED.to_owned(),
        }
    }

    /// Whether another attempt could end differently.
    #[must_use]
    pub fn is_worth_another_attempt(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

impl From<Cancelled> for EngineError {
    fn from(_: Cancelled) -> Self {
        Self::Cancelled
    }
}

/// Files that an engine writes: a full disk is told from other failures.
impl From<std::io::Error> for EngineError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Self::StorageFull(error.to_string())
            }
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Self {
        let detail = error.to_string();
        match error {
            EngineError::CheckpointMissing { .. } => {
                Self::new(Code::CheckpointMissing, detail).with_retry_after(60)
            }
            EngineError::CheckpointInvalid { .. } => {
                Self::new(Code::CheckpointInvalid, detail).with_retry_after(60)
            }
            EngineError::OutOfMemory(_) => Self::new(Code::InsufficientMemory, detail).with_retry_after(30),
            EngineError::StorageFull(_) => Self::new(Code::StorageFull, detail).with_retry_after(30),
            EngineError::InvalidInput(problem) => problem,
            EngineError::Cancelled | EngineError::Failed(_) => Self::new(Code::Internal, detail),
        }
    }
}
