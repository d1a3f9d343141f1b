//! Errors of reading a GGUF file.

use std::path::{Path, PathBuf};

/// A GGUF file that cannot be read or whose header is invalid.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The operating system reported an error.
    #[error("{}: {error}", file.display())]
    Io {
        /// The file that was read.
        file: PathBuf,
        /// The error of the operating system.
        #[source]
        error: std::io::Error,
    },
    /// The header is malformed, inconsistent or of a version that is not supported.
    #[error("{}: {reason}", file.display())]
    Invalid {
        /// The file that was read.
        file: PathBuf,
        /// What is wrong with the header.
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
