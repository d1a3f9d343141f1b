//! A cache of quantised weights on disk. Weights that were quantised while loading are written to a file, and the
//! next load of the same checkpoint with the same quantisation reads that file: a quarter to a half of the bytes, and
//! nothing to quantise.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::checkpoint::{PARTIAL, SafetensorsWriter};
use crate::quantized::{self, HostWeight, PackedWeight};
use crate::{Checkpoint, Quantization};

/// Free bytes that must remain on the disk after writing.
const SPARE_BYTES: u64 = 1 << 30;
/// An unfinished file that was not written to for this long belongs to a process that no longer exists.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);
/// Part of the file name. Changed whenever the layouts that this crate writes change, so that older files are not
/// read.
const VERSION: &str = "videosdgx-weights-1";

/// The cache file of one checkpoint and quantisation: read when it exists, else written while loading.
pub(crate) struct WeightCache {
    path: PathBuf,
    /// The part of the file name for checkpoint folder and quantisation, without the identity of the content.
    place: String,
    copy: Option<Checkpoint>,
    writer: Mutex<Option<SafetensorsWriter>>,
}

impl WeightCache {
    /// Opens the cache file of `checkpoint` in `folder`, or starts writing one. An error is logged and loading
    /// continues without the cache.
    pub(crate) fn open(folder: &Path, checkpoint: &Checkpoint, quantization: Quantization) -> Self {
        let place =
            format!("{}-{quantization}-", short(checkpoint.first_file().as_os_str().as_encoded_bytes()));
        let path = folder.join(format!("{place}{}.safetensors", identity(checkpoint)));
        let copy = path.is_file().then(|| Checkpoint::open_file(&path)).and_then(|copy| match copy {
            Ok(copy) => Some(copy),
            Err(error) => {
                tracing::warn!(%error, "the weight cache file is invalid and will be rewritten");
                None
            }
        });
        let writer = match &copy {
            Some(_) => None,
            None => match begin(folder, &path, &place, checkpoint, quantization) {
                Ok(writer) => Some(writer),
                Err(error) => {
                    tracing::warn!(%error, folder = %folder.display(), "cannot write the weight cache");
                    None
                }
            },
        };
        Self { path, place, copy, writer: Mutex::new(writer) }
    }

    /// The linear layer `name` from the cache file, if the file has it.
    pub(crate) fn read(&self, name: &str, shape: [i64; 2]) -> Option<HostWeight> {
        let copy = self.copy.as_ref().filter(|copy| quantized::contains(copy, name))?;
        match quantized::read(copy, name, shape, &mut Vec::new()) {
            Ok(stored) => Some(stored),
            Err(error) => {
                tracing::warn!(%error, "the weight cache is not used for this layer");
                None
            }
        }
    }

    /// Adds the linear layer `name` to the cache file that is being written.
    pub(crate) fn add(&self, name: &str, weight: &PackedWeight) {
        let mut writer = self.writer();
        if let Some(open) = writer.as_mut()
            && let Err(error) = quantized::write(open, name, weight)
        {
            tracing::warn!(%error, file = %self.path.display(), "cannot write the weight cache");
            *writer = None;
        }
    }

    /// Completes the cache file that is being written and removes those of the checkpoint's earlier content.
    pub(crate) fn finish(&self) {
        let Some(writer) = self.writer().take().filter(|writer| writer.len() > 0) else { return };
        match writer.finish() {
            Ok(()) => {
                tracing::info!(file = %self.path.display(), "wrote the weight cache");
                self.remove_older();
            }
            Err(error) => {
                tracing::warn!(%error, file = %self.path.display(), "cannot write the weight cache");
            }
        }
    }

    fn remove_older(&self) {
        let Some(entries) = self.path.parent().and_then(|folder| std::fs::read_dir(folder).ok()) else {
            return;
        };
        for path in entries.filter_map(|entry| entry.ok().map(|entry| entry.path())) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path != self.path && name.starts_with(&self.place) && name.ends_with(".safetensors") {
                let _gone = std::fs::remove_file(&path);
            }
        }
    }

    fn writer(&self) -> MutexGuard<'_, Option<SafetensorsWriter>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn begin(
    folder: &Path,
    path: &Path,
    place: &str,
    checkpoint: &Checkpoint,
    quantization: Quantization,
) -> io::Result<SafetensorsWriter> {
    std::fs::create_dir_all(folder)?;
    remove_abandoned(folder, place);
    let parameters: u64 =
        checkpoint.entries().map(|entry| entry.shape.iter().product::<i64>().unsigned_abs()).sum();
    let needed = quantization.weight_bytes(parameters, 4).saturating_add(SPARE_BYTES);
    let free = free_bytes(folder)?;
    if free < needed {
        let reason = format!("{free} bytes are free, {needed} are needed");
        return Err(io::Error::new(io::ErrorKind::StorageFull, reason));
    }
    SafetensorsWriter::create(path)
}

/// Removes unfinished files that were not written to for [`ABANDONED_AFTER`]: their process was killed.
fn remove_abandoned(folder: &Path, place: &str) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let unfinished = name.to_str().is_some_and(|name| name.starts_with(place) && name.ends_with(PARTIAL));
        let written = entry.metadata().and_then(|facts| facts.modified());
        let silent = written.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > ABANDONED_AFTER));
        if unfinished && silent {
            let _gone = std::fs::remove_file(entry.path());
        }
    }
}

/// Identifies the content of a checkpoint without reading the weights: each file's name, size and modification time,
/// and the header of every tensor.
fn identity(checkpoint: &Checkpoint) -> String {
    let mut hash = Sha256::new();
    hash.update(VERSION);
    for line in checkpoint.identity() {
        hash.update(line);
        hash.update([0]);
    }
    hex(&hash.finalize()[..16])
}

fn short(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes)[..6])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes that this user can still write below `folder`.
fn free_bytes(folder: &Path) -> io::Result<u64> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = std::ffi::CString::new(folder.as_os_str().as_bytes())?;
    // SAFETY: all zeros is a valid value of this structure of integers.
    let mut facts: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: a zero-terminated string and a local structure, both alive during the call.
    if unsafe { libc::statvfs(path.as_ptr(), &raw mut facts) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
}

#[cfg(test)]
mod tests;
