use std::{
    fs::TryLockError,
    path::{Path, PathBuf},
    time::Duration,
};

use futures::{StreamExt, TryStreamExt};

use super::{Hub, PullError, RemoteFile, SafePath, file, place};

/// Files downloaded at the same time.
const PARALLEL: usize = 4;
/// Failures in a row of one file, without a new byte, before the pull fails.
const ATTEMPTS: u32 = 6;

/// Progress of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullEvent<'a> {
    /// The list of files is known.
    Planned {
        /// Number of files.
        files: usize,
        /// Bytes of all files.
        bytes: u64,
    },
    /// Progress of a file; also sent for files that already exist, and when a file is restarted.
    Bytes {
        /// Path of the file.
        path: &'a SafePath,
        /// Bytes on disk.
        done: u64,
        /// Total bytes.
        size: u64,
    },
    /// The file is complete and verified.
    Done {
        /// Path of the file.
        path: &'a SafePath,
    },
    /// The connection failed and is retried.
    Retry {
        /// Path of the file.
        path: &'a SafePath,
        /// Why it failed.
        reason: &'a str,
    },
}

/// Result of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullReport {
    /// Folder of the checkpoint.
    pub folder: PathBuf,
    /// Number of files.
    pub files: usize,
    /// Total bytes.
    pub bytes: u64,
    /// Number of files downloaded now.
    pub fetched: usize,
}

/// Downloads a repository's checkpoint to `<models>/<name>`, which appears when complete. An existing folder is completed
/// in place. `verify`: also check the checksums of existing files.
///
/// # Errors
/// See [`PullError`]; received data is kept for the next call.
pub async fn pull(
    hub: &Hub,
    models: &Path,
    name: &str,
    verify: bool,
    on_event: &(dyn Fn(&PullEvent<'_>) + Sync),
) -> Result<PullReport, PullError> {
    if name.contains('/') || SafePath::new(name).is_none() {
        return Err(PullError::InvalidSource(format!("{name:?} is not a valid folder name")));
    }
    std::fs::create_dir_all(models).map_err(PullError::file("create", models))?;
    let _lock = lock(models, name)?;
    let last = models.join(name);
    let staging = models.join(format!(".{name}.pulling"));
    let folder = if last.exists() { &last } else { &staging };

    let files = hub.list().await?;
    let bytes = files.iter().map(|file| file.size).sum();
    on_event(&PullEvent::Planned { files: files.len(), bytes });
    let mut missing = Vec::new();
    for file in &files {
        if file::is_complete(file, &file.path.within(folder), verify).await? {
            on_event(&PullEvent::Bytes { path: &file.path, done: file.size, size: file.size });
            on_event(&PullEvent::Done { path: &file.path });
        } else {
            missing.push(file);
        }
    }
    place::check_space(folder, missing.iter().map(|file| still_needed(file, folder)).sum())?;
    let fetched = missing.len();
    futures::stream::iter(missing)
        .map(|file| fetch_with_retries(hub, file, folder, on_event))
        .buffer_unordered(PARALLEL)
        .try_collect::<()>()
        .await?;
    if folder == &staging {
        std::fs::rename(&staging, &last).map_err(PullError::file("create", &last))?;
    }
    sync_folder(models)?;
    Ok(PullReport { folder: last, files: files.len(), bytes, fetched })
}

async fn fetch_with_retries(
    hub: &Hub,
    file: &RemoteFile,
    folder: &Path,
    on_event: &(dyn Fn(&PullEvent<'_>) + Sync),
) -> Result<(), PullError> {
    let target = file.path.within(folder);
    let on_bytes = |done| on_event(&PullEvent::Bytes { path: &file.path, done, size: file.size });
    let mut failures = 0;
    loop {
        let before = partial_length(&target);
        match file::fetch(hub, file, &target, &on_bytes).await {
            Ok(()) => break,
            Err(error) if error.is_temporary() => {
                failures = if partial_length(&target) > before { 0 } else { failures + 1 };
                if failures == ATTEMPTS {
                    return Err(error);
                }
                on_event(&PullEvent::Retry { path: &file.path, reason: &error.to_string() });
                tokio::time::sleep(Duration::from_millis(250 << failures)).await;
            }
            Err(error) => return Err(error),
        }
    }
    on_event(&PullEvent::Done { path: &file.path });
    Ok(())
}

fn partial_length(target: &Path) -> u64 {
    std::fs::metadata(file::partial_path(target)).map_or(0, |metadata| metadata.len())
}

fn still_needed(file: &RemoteFile, folder: &Path) -> u64 {
    file.size.saturating_sub(partial_length(&file.path.within(folder)))
}

/// Allows one pull per folder at a time; the lock ends with the process.
fn lock(models: &Path, name: &str) -> Result<std::fs::File, PullError> {
    let path = models.join(format!(".{name}.lock"));
    let lock = std::fs::File::create(&path).map_err(PullError::file("create", &path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(PullError::Busy(models.join(name))),
        Err(TryLockError::Error(error)) => Err(PullError::file("lock", &path)(error)),
    }
}

fn sync_folder(folder: &Path) -> Result<(), PullError> {
    std::fs::File::open(folder).and_then(|dir| dir.sync_all()).map_err(PullError::file("sync", folder))
}
