//! What can go wrong with a generation.

use std::path::PathBuf;

use videosdgx_tensor::{CheckpointError, TensorError};

/// Why a pipeline could not be loaded, or a video not be made.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// Loading or computing failed.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// The request does not fit the model.
    #[error("{field}: {reason}")]
    Input {
        /// Field of the request at fault.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The latents could not be kept on the disk.
    #[error("{}: {error}", path.display())]
    Scratch {
        /// The file.
        path: PathBuf,
        /// The system's words.
        error: std::io::Error,
    },
}

impl From<CheckpointError> for PipelineError {
    fn from(error: CheckpointError) -> Self {
        Self::Tensor(error.into())
    }
}

/// An error of ours or of the caller's callback, on its way through libraries that know only tensors.
pub(super) enum Either<E> {
    Tensor(TensorError),
    Caller(E),
}

impl<E> From<TensorError> for Either<E> {
    fn from(error: TensorError) -> Self {
        Self::Tensor(error)
    }
}

impl<E: From<PipelineError>> Either<E> {
    pub(super) fn into_caller(self) -> E {
        match self {
            Self::Tensor(error) => PipelineError::from(error).into(),
            Self::Caller(error) => error,
        }
    }
}
