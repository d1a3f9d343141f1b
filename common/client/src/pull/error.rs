use std::path::{Path, PathBuf};

use super::{Digest, SafePath};

/// Why a checkpoint did not come.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// Endpoint, repository or revision cannot be one.
    #[error("{0}")]
    InvalidSource(String),
    /// The endpoint or a host that it redirects to said no.
    #[error("{host} answers {status} for {what}{hint}")]
    Refused {
        /// Host and port.
        host: String,
        /// HTTP status.
        status: u16,
        /// What was asked for.
        what: String,
        /// What may help, with its punctuation.
        hint: &'static str,
    },
    /// Nobody answers, or the connection breaks again and again.
    #[error(
        "{host} cannot be reached or breaks off ({reason}); what came is kept, run the command again to go on"
    )]
    Transport {
        /// Host and port.
        host: String,
        /// Without any address in it.
        reason: String,
    },
    /// The listing is none.
    #[error("the listing of {repository} cannot be used: {reason}")]
    Listing {
        /// Which repository.
        repository: String,
        /// Why.
        reason: String,
    },
    /// The bytes are not those that were published, twice in a row.
    #[error("{path} is not what was published: its checksum is not {expected}")]
    Checksum {
        /// Which file.
        path: SafePath,
        /// What it should be.
        expected: Digest,
    },
    /// More or fewer bytes than listed.
    #[error("{path} has {got} bytes at the endpoint, {expected} are listed")]
    Size {
        /// Which file.
        path: SafePath,
        /// Bytes listed.
        expected: u64,
        /// Bytes offered.
        got: u64,
    },
    /// The disk is too small.
    #[error("{} needs {:.1} GB more, its disk has {:.1} GB free", .folder.display(), gb(.needed), gb(.free))]
    NoSpace {
        /// Where to.
        folder: PathBuf,
        /// Bytes.
        needed: u64,
        /// Bytes.
        free: u64,
    },
    /// Somebody else is at it.
    #[error("another pull is at work on {}", .0.display())]
    Busy(PathBuf),
    /// A file could not be used.
    #[error("cannot {action} {}: {source}", .path.display())]
    File {
        /// For example `write`.
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system says.
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

    /// Whether another attempt a little later may succeed.
    pub(crate) fn is_passing(&self) -> bool {
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
            crate::ClientError::Unreachable { host, reason }
            | crate::ClientError::Broken { host, reason } => Self::Transport { host, reason },
            other => Self::InvalidSource(other.to_string()),
        }
    }
}
