use std::path::{Path, PathBuf};

use super::{Digest, SafePath};

/// Why a checkpoint could not be downloaded.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// Endpoint, repository or revision is invalid.
    #[error("{0}")]
    InvalidSource(String),
    /// The endpoint, or a host that it redirects to, refused a request.
    #[error("{host} responded with {status} for {what}{hint}")]
    Refused {
        /// Host and port.
        host: String,
        /// HTTP status.
        status: u16,
        /// What was requested.
        what: String,
        /// Advice, beginning with punctuation; may be empty.
        hint: &'static str,
    },
    /// The host is unreachable, or the connection failed repeatedly.
    #[error(
        "{host} cannot be reached or the connection failed ({reason}); the received data is kept, run the command again to continue"
    )]
    Transport {
        /// Host and port.
        host: String,
        /// The innermost cause, without a URL.
        reason: String,
        /// The error of the HTTP client, without a URL.
        source: Option<reqwest::Error>,
    },
    /// Another error of the HTTP client.
    #[error(transparent)]
    Client(crate::ClientError),
    /// The list of files is invalid.
    #[error("the listing of {repository} cannot be used: {source}")]
    Listing {
        /// The repository.
        repository: String,
        /// Why it is invalid.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The checksum of a file was wrong twice in a row.
    #[error("{path} differs from the published file: its checksum is not {expected}")]
    Checksum {
        /// Path of the file.
        path: SafePath,
        /// The published checksum.
        expected: Digest,
    },
    /// The size of a file differs from the list.
    #[error("{path} has {got} bytes at the endpoint, {expected} are listed")]
    Size {
        /// Path of the file.
        path: SafePath,
        /// Size in the list, in bytes.
        expected: u64,
        /// Size at the endpoint, in bytes.
        got: u64,
    },
    /// The disk has too little free space.
    #[error("{} needs {:.1} GB more, its disk has {:.1} GB free", .folder.display(), gb(.needed), gb(.free))]
    NoSpace {
        /// Target folder.
        folder: PathBuf,
        /// Missing bytes of the checkpoint.
        needed: u64,
        /// Free bytes of the disk.
        free: u64,
    },
    /// Another process is downloading the same checkpoint.
    #[error("another pull of {} is running", .0.display())]
    Busy(PathBuf),
    /// A file could not be used.
    #[error("cannot {action} {}: {source}", .path.display())]
    File {
        /// What was attempted, for example `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
}

fn gb(bytes: &u64) -> f64 {
    *bytes as f64 / 1e9
}

impl PullError {
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File { action, path: path.to_owned(), source }
    }

    /// Whether another attempt may succeed a little later.
    pub(crate) fn is_temporary(&self) -> bool {
        match self {
            Self::Transport { .. } => true,
            Self::Refused { status, .. } => matches!(status, 408 | 429 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }
}

impl From<crate::ClientError> for PullError {
    fn from(error: crate::ClientError) -> Self {
        match error {
            crate::ClientError::Unreachable { host, reason, source } => {
                Self::Transport { host, reason, source: Some(source) }
            }
            crate::ClientError::Broken { host, reason, source } => Self::Transport { host, reason, source },
            other => Self::Client(other),
        }
    }
}
