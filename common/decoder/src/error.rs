//! Errors of opening and loading a checkpoint.

use std::path::PathBuf;

use videosdgx_tensor::{CheckpointError, TensorError};

use crate::ConfigError;

/// A checkpoint that cannot be opened or loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The configuration is invalid or describes a model that is not supported.
    #[error("{}: {error}", file.display())]
    Config {
        /// The configuration file.
        file: PathBuf,
        /// The field and the reason.
        #[source]
        error: ConfigError,
    },
    /// A file is missing or invalid, memory is exhausted, or the device failed.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

impl From<CheckpointError> for LoadError {
    fn from(error: CheckpointError) -> Self {
        Self::Tensor(error.into())
    }
}
