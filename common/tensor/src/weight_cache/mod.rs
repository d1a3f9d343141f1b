//! A copy of quantised weights on the disk: what was quantised while loading is written down, and the next load of the
//! same checkpoint in the same form reads a quarter or a half of the bytes and quantises nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::checkpoint::{PARTIAL, SafetensorsWriter};
use crate::quantized::{self, HostWeight, PackedWeight};
use crate::{Checkpoint, Quantization};

/// Free space that writing must leave: others live on the same disk.
const SPARE_BYTES: u64 = 1 << 30;
/// A copy that nobody has written to for so long is no longer being made.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);
/// Changes when our forms do, so that older files are not read.
const VERSION: &str = "videosdgx-weights-1";

/// The copy that belongs to one checkpoint and one form: read when it is there, else written as loading goes on.
pub(crate) struct WeightCache {
    path: PathBuf,
    /// The part of the name that tells checkpoint and form, whatever their content.
    place: String,
    copy: Option<Checkpoint>,
    writer: Mutex<Option<SafetensorsWriter>>,
}

impl WeightCache {
    /// Looks for the copy of `checkpoint` in `folder`, or begins one. Whatever goes wrong costs only the copy: it is
    /// logged, and loading goes on without.
    pub(crate) fn open(folder: &Path, checkpoint: &Checkpoint, quantization: Quantization) -> Self {
        let place =
            format!("{}-{quantization}-", short(checkpoint.first_file().as_os_str().as_encoded_bytes()));
        let path = folder.join(format!("{place}{}.safetensors", identity(checkpoint)));
        let copy = path.is_file().then(|| Checkpoint::open_file(&path)).and_then(|copy| match copy {
            Ok(copy) => Some(copy),
            Err(error) => {
                tracing::warn!(%error, "the copy of the quantised weights is broken and is made again");
                None
            }
        });
        let writer = match &copy {
            Some(_) => None,
            None => match begin(folder, &path, &place, checkpoint, quantization) {
                Ok(writer) => Some(writer),
                Err(error) => {
                    tracing::warn!(%error, folder = %folder.display(), "quantised weights are not kept on the disk");
                    None
                }
            },
        };
        Self { path, place, copy, writer: Mutex::new(writer) }
    }

    /// The linear `name` from the copy, when it has it.
    pub(crate) fn read(&self, name: &str, shape: [i64; 2]) -> Option<HostWeight> {
        let copy = self.copy.as_ref().filter(|copy| quantized::contains(copy, name))?;
        match quantized::read(copy, name, shape, &mut Vec::new()) {
            Ok(stored) => Some(stored),
            Err(error) => {
                tracing::warn!(%error, "the copy of the quantised weights is not used for this layer");
                None
            }
        }
    }

    /// Adds the linear `name` to the copy that is being made.
    pub(crate) fn add(&self, name: &str, weight: &PackedWeight) {
        let mut writer = self.writer();
        if let Some(open) = writer.as_mut()
            && let Err(error) = quantized::write(open, name, weight)
        {
            tracing::warn!(%error, file = %self.path.display(), "quantised weights are not kept on the disk");
            *writer = None;
        }
    }

    /// Completes the copy that is being made and removes those of the same checkpoint's earlier content.
    pub(crate) fn finish(&self) {
        let Some(writer) = self.writer().take().filter(|writer| writer.len() > 0) else { return };
        match writer.finish() {
            Ok(()) => {
                tracing::info!(file = %self.path.display(), "quantised weights are kept on the disk");
                self.remove_older();
            }
            Err(error) => {
                tracing::warn!(%error, file = %self.path.display(), "quantised weights are not kept on the disk");
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

/// Removes unfinished copies that nobody has written to for a while: their process was killed.
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

/// Tells one content of a checkpoint from another without reading it: each file's name, size and time of change, and
/// what its header says of every tensor.
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
    // SAFETY: all zeros is a value of this structure of numbers.
    let mut facts: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: a string that ends in zero and a structure that is ours, both alive during the call.
    if unsafe { libc::statvfs(path.as_ptr(), &raw mut facts) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
}

#[cfg(test)]
mod tests;
