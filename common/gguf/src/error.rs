//! Why a GGUF file cannot be used.

use std::path::{Path, PathBuf};

/// A GGUF file that cannot be opened or whose header is not what it must be.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The system refused.
    #[error("{}: {error}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        #[source]
        error: std::io::Error,
    },
    /// The header is broken, lies, or is of a kind that is not read.
    #[error("{}: {reason}", file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl GgufError {
    /// An [`GgufError::Invalid`] about `file`.
    pub fn invalid(file: impl AsRef<Path>, reason: impl std::fmt::Display) -> Self {
        Self::Invalid { file: file.as_ref().to_owned(), reason: reason.to_string() }
    }

    /// An [`GgufError::Io`] about `file`.
    pub(crate) fn io(file: &Path, error: std::io::Error) -> Self {
        Self::Io { file: file.to_owned(), error }
    }
}
