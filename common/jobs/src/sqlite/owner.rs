//! The exclusive lock on a state folder.

use std::{
    fs::{File, TryLockError},
    path::Path,
};

use crate::{QueueError, StorageError, private::private_file};

/// Held as long as the queue is open; the operating system releases it however the process ends.
#[derive(Debug)]
pub(super) struct OwnerLock(#[expect(dead_code, reason = "open as long as the lock is held")] File);

impl OwnerLock {
    pub(super) fn take(folder: &Path) -> Result<Self, QueueError> {
        let path = folder.join("jobs.lock");
        let storage = |error: std::io::Error| QueueError::Storage(StorageError::new(error).at(&path));
        let file = private_file(&path).map_err(storage)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(QueueError::Locked { path }),
            Err(TryLockError::Error(error)) => Err(storage(error)),
        }
    }
}
