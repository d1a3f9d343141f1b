//! Why a model cannot be described, loaded or used.

use std::{error::Error, path::PathBuf, sync::Arc, time::Duration};

use videosdgx_api::{Code, Problem};

/// Stable code of a failure without a more specific code.
pub const GENERATION_FAILED: &str = "generation_failed";
/// Stable code of a failure of the GPU, after which the process ends and is started again.
pub const DEVICE_FAILED: &str = "device_failed";

/// Why a model cannot be described or loaded.
///
/// ```
/// use videosdgx_model::ModelError;
///
/// let error = ModelError::failed("the driver was reset");
/// assert_eq!((error.code(), error.to_string().as_str()), ("generation_failed", "the driver was reset"));
/// ```
#[derive(Debug, Clone, thiserror::Error)]
pub enum ModelError {
    /// There is no checkpoint. Answered with 503 `checkpoint_missing`.
    #[error("there is no checkpoint: {} is missing; {hint}", .path.display())]
    CheckpointMissing {
        /// The folder or file that was looked for.
        path: PathBuf,
        /// The command that downloads it.
        hint: String,
    },
    /// There is a checkpoint that cannot be used. Answered with 503 `checkpoint_invalid`.
    #[error("the checkpoint cannot be used: {}: {reason}", .file.display())]
    CheckpointInvalid {
        /// The invalid file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The allocator or the device refused. Answered with 503 `insufficient_memory`.
    #[error("out of memory: {0}")]
    OutOfMemory(String),
    /// The GPU failed in a way that every later use of it in this process repeats; the process ends. Answered with 503
    /// `overloaded`.
    #[error("the device failed, and the service starts again: {0}")]
    DeviceFailed(String),
    /// Any other failure; the next use tries again. Answered with 500 `internal`.
    #[error(transparent)]
    Failed(Arc<dyn Error + Send + Sync>),
}

impl ModelError {
    /// [`ModelError::Failed`] from an error or a message.
    pub fn failed(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed(source.into().into())
    }

    /// Reports a failed device to the process, which then ends: [`crate::report_device_failure`].
    pub fn report_if_device_failed(&self) {
        if let Self::DeviceFailed(reason) = self {
            crate::report_device_failure(reason);
        }
    }

    /// The stable code for a job or a response.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::CheckpointMissing { .. } => Code::CheckpointMissing.as_str(),
            Self::CheckpointInvalid { .. } => Code::CheckpointInvalid.as_str(),
            Self::OutOfMemory(_) => Code::InsufficientMemory.as_str(),
            Self::DeviceFailed(_) => DEVICE_FAILED,
            Self::Failed(_) => GENERATION_FAILED,
        }
    }
}

/// The one place where a model's failure becomes a problem document.
impl From<&ModelError> for Problem {
    fn from(error: &ModelError) -> Self {
        let detail = error.to_string();
        match error {
            ModelError::CheckpointMissing { .. } => {
                Self::new(Code::CheckpointMissing, detail).with_retry_after(60)
            }
            ModelError::CheckpointInvalid { .. } => {
                Self::new(Code::CheckpointInvalid, detail).with_retry_after(60)
            }
            ModelError::OutOfMemory(_) => Self::new(Code::InsufficientMemory, detail).with_retry_after(30),
            ModelError::DeviceFailed(_) => Self::new(Code::Overloaded, detail).with_retry_after(30),
            ModelError::Failed(_) => Self::new(Code::Internal, detail),
        }
    }
}

impl From<ModelError> for Problem {
    fn from(error: ModelError) -> Self {
        Self::from(&error)
    }
}

/// Errors of a loader. `Clone`, because one failure is reported to many callers.
#[derive(Debug, thiserror::Error)]
pub enum LoaderError<E: Error + 'static> {
    /// The load failed; the next use tries again.
    #[error("{0}")]
    Load(Arc<E>),
    /// It would not fit, even after idle models were unloaded.
    #[error(
        "the model needs {needed} bytes and {available} are available, free memory or choose a smaller checkpoint"
    )]
    InsufficientMemory {
        /// Declared peak in bytes.
        needed: u64,
        /// Bytes that could be used now, without the reserve.
        available: u64,
    },
    /// The model is still in use; nothing was unloaded.
    #[error("the model is still in use by {in_use} jobs after waiting {} s", waited.as_secs())]
    Busy {
        /// Uses that run or are granted.
        in_use: usize,
        /// How long the unload waited.
        waited: Duration,
    },
    /// The code on the inference thread panicked (a bug); the model is dropped and loaded again for the next use.
    #[error("inference panicked: {0}")]
    Panicked(String),
    /// The loader was closed.
    #[error("the model loader is closed")]
    Closed,
}

impl<E: Error + 'static> Clone for LoaderError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Load(error) => Self::Load(Arc::clone(error)),
            Self::InsufficientMemory { needed, available } => {
                Self::InsufficientMemory { needed: *needed, available: *available }
            }
            Self::Busy { in_use, waited } => Self::Busy { in_use: *in_use, waited: *waited },
            Self::Panicked(message) => Self::Panicked(message.clone()),
            Self::Closed => Self::Closed,
        }
    }
}
