//! Errors of the queue.

use std::{
    error::Error,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use videosdgx_api::{JobId, JobStatus};

/// Which limit of the queue was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueLimit {
    /// All jobs that wait.
    Queue,
    /// The jobs of this principal that wait: its share of the queue.
    Principal,
}

impl QueueLimit {
    fn reached(self, limit: usize) -> String {
        match self {
            Self::Queue => format!("the queue is full ({limit} jobs wait)"),
            Self::Principal => {
                format!("your share of the queue is used up ({limit} waiting jobs at present)")
            }
        }
    }
}

/// Errors of the queue. `Clone`, because one failed commit is reported to many callers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// No such job, or not this principal's.
    #[error("no such job")]
    NotFound,
    /// The attempt no longer holds the job: write nothing, remove its files.
    #[error("attempt {attempt} no longer holds job {job}")]
    Stale {
        /// The job.
        job: JobId,
        /// The refused fencing token.
        attempt: u32,
    },
    /// The same idempotency key was used with another body.
    #[error("the idempotency key was already used for job {job} with another body")]
    IdempotencyConflict {
        /// The job that was created with the key.
        job: JobId,
    },
    /// The id is already taken.
    #[error("job id {job} is already taken")]
    DuplicateId {
        /// The id.
        job: JobId,
    },
    /// A limit was reached; nothing of the submission was enqueued.
    #[error("{}, try again in {} s", scope.reached(*limit), retry_after.as_secs())]
    QueueFull {
        /// Which limit.
        scope: QueueLimit,
        /// The value of the limit.
        limit: usize,
        /// Time until there is space again, as an estimate; at least 1 s.
        retry_after: Duration,
    },
    /// The job has not ended: cancel it first.
    #[error("the job is {}, cancel it first", status.as_str())]
    NotEnded {
        /// Its state.
        status: JobStatus,
    },
    /// The job has already ended, so it cannot be cancelled.
    #[error("the job is already {}", status.as_str())]
    AlreadyEnded {
        /// How it ended.
        status: JobStatus,
    },
    /// The disk is full; nothing was changed. Writes succeed again once there is space.
    #[error("no space left for the job database")]
    StorageFull,
    /// The database failed; nothing was changed.
    #[error("job database: {0}")]
    Storage(#[source] StorageError),
    /// Another process owns the state folder.
    #[error("{} is in use by another process, stop it or choose another state folder", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The database was written by a newer program.
    #[error("the job database has version {found}, this program knows up to {known}: use the newer program")]
    TooNew {
        /// Version found.
        found: i64,
        /// Newest version known.
        known: i64,
    },
    /// The queue is shutting down.
    #[error("the queue is closed")]
    Closed,
}

/// Why the queue's storage failed. Two of these errors are equal if their messages are.
#[derive(Debug, Clone)]
pub struct StorageError {
    path: Option<PathBuf>,
    source: Arc<dyn Error + Send + Sync>,
}

impl StorageError {
    /// A failure of the storage, from an error or a message.
    pub fn new(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { path: None, source: source.into().into() }
    }

    /// Adds the file or folder to the message.
    #[must_use]
    pub fn at(mut self, path: &Path) -> Self {
        self.path = Some(path.to_owned());
        self
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "{}: {}", path.display(), self.source),
            None => self.source.fmt(f),
        }
    }
}

impl Error for StorageError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}

impl PartialEq for StorageError {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for StorageError {}
