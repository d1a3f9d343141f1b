//! One process owns a state folder.

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::Path,
};

use crate::QueueError;

/// Held as long as the queue lives; the system lets go of it when the process dies, however it dies.
#[derive(Debug)]
pub(super) struct OwnerLock(#[expect(dead_code, reason = "open as long as the lock is held")] File);

impl OwnerLock {
    pub(super) fn take(folder: &Path) -> Result<Self, QueueError> {
        let path = folder.join("jobs.lock");
        let storage = |error: std::io::Error| QueueError::Storage(format!("{}: {error}", path.display()));
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(storage)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(QueueError::Locked { path }),
            Err(TryLockError::Error(error)) => Err(storage(error)),
        }
    }
}
