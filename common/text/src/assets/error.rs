//! Errors of reading a checkpoint's assets.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a checkpoint's assets cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AssetsError {
    /// A required file is missing.
    #[error("{} is missing", path.display())]
    Missing {
        /// Path of the file.
        path: PathBuf,
    },
    /// A file has invalid content.
    #[error("{} is invalid: {source}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with the content.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// A file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Error of the operating system or of the GGUF reader.
        source: Arc<dyn Error + Send + Sync>,
    },
}

impl AssetsError {
    pub(super) fn invalid(path: impl AsRef<Path>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Invalid { path: path.as_ref().to_owned(), source: source.into().into() }
    }

    pub(super) fn io(path: &Path, error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::NotFound => Self::Missing { path: path.to_owned() },
            _ => Self::Unreadable { path: path.to_owned(), source: Arc::new(error) },
        }
    }
}
