//! Why a model cannot be loaded.

use std::path::PathBuf;

use videosdgx_tensor::{CheckpointError, TensorError};

use crate::ConfigError;

/// Errors of looking at a checkpoint and of loading it.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The configuration is of a model that is not computed here, or makes no sense.
    #[error("{}: {error}", file.display())]
    Config {
        /// The file with the configuration.
        file: PathBuf,
        /// The field and what is wrong.
        error: ConfigError,
    },
    /// A file is missing or broken, memory ran out, or the device failed.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

impl From<CheckpointError> for LoadError {
    fn from(error: CheckpointError) -> Self {
        Self::Tensor(error.into())
    }
}
