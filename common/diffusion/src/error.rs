//! Errors of loading a pipeline and of generating a video.

use std::path::PathBuf;

use videosdgx_mp4::Mp4Error;
use videosdgx_tensor::{CheckpointError, TensorError};

use crate::LoraError;

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
    /// A LoRA cannot be used.
    #[error(transparent)]
    Lora(#[from] LoraError),
    /// The latents could not be stored on the disk.
    #[error("cannot store latents in {}: {source}", path.display())]
    Scratch {
        /// The file.
        path: PathBuf,
        /// What the system or libtorch reported.
        source: std::io::Error,
    },
    /// A picture could not be encoded or written.
    #[error("cannot write {}: {source}", path.display())]
    Output {
        /// The file.
        path: PathBuf,
        /// What the system or the encoder reported.
        source: std::io::Error,
    },
    /// The video could not be encoded or written.
    #[error(transparent)]
    Mp4(#[from] Mp4Error),
}

impl From<CheckpointError> for PipelineError {
    fn from(error: CheckpointError) -> Self {
        Self::Tensor(error.into())
    }
}

/// An error of libtorch or of a caller's callback, for functions whose error must be `From<TensorError>`.
#[derive(Debug)]
pub enum CallbackError<E> {
    /// Of libtorch.
    Tensor(TensorError),
    /// Of the callback.
    Caller(E),
}

impl<E> From<TensorError> for CallbackError<E> {
    fn from(error: TensorError) -> Self {
        Self::Tensor(error)
    }
}

impl<E: From<PipelineError>> CallbackError<E> {
    /// The error in the caller's type.
    pub fn into_caller(self) -> E {
        match self {
            Self::Tensor(error) => PipelineError::from(error).into(),
            Self::Caller(error) => error,
        }
    }
}
