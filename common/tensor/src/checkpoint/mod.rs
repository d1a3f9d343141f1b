//! Published checkpoints, unchanged: a diffusers or transformers folder of safetensors files, single or sharded, or a
//! GGUF file.

mod fingerprint;
mod header;
mod layout;
mod writer;

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use tch::{Device, Tensor};
use videosdgx_gguf::{Gguf, GgufError};

pub use fingerprint::{file_fingerprint, folder_fingerprint};
pub use header::{StoredDtype, TensorEntry, read_metadata};
pub use writer::write_f32_tensors;
pub(crate) use writer::{PARTIAL, SafetensorsWriter};

use crate::{CheckpointError, TensorError};

/// Bytes read from a file at a time; after each read the page cache is released.
const READ_BYTES: usize = 16 << 20;
/// Longest JSON file that is read, in bytes (a tokenizer of 256,000 tokens has 17 MB).
const MAX_JSON_BYTES: u64 = 64 << 20;

/// An opened checkpoint: type, shape and location of every tensor; weights are read on request.
///
/// ```no_run
/// use videosdgx_tensor::{Checkpoint, TensorError};
///
/// # fn main() -> Result<(), TensorError> {
/// let checkpoint = Checkpoint::open("models/qwen3-0.6b")?;
/// println!("{} bytes of weights", checkpoint.stored_bytes());
/// if let Some(entry) = checkpoint.entry("model.norm.weight") {
///     println!("{:?} {:?}", entry.kind, entry.shape);
/// }
/// let norm = checkpoint.read("model.norm.weight")?;
/// # let _ = norm;
/// # Ok(())
/// # }
/// ```
pub struct Checkpoint {
    folder: PathBuf,
    shards: Vec<Shard>,
    tensors: HashMap<String, (usize, TensorEntry)>,
    gguf: Option<Gguf>,
}

struct Shard {
    path: PathBuf,
    file: File,
}

impl Checkpoint {
    /// Opens `path`: a folder with one `*.safetensors` file, with the shards that a `*.safetensors.index.json` lists,
    /// or with one `*.gguf` file; or a single such file. Checks every header. An index beside a whole file with a
    /// published name is not used.
    ///
    /// # Errors
    /// [`CheckpointError::Missing`] with the path that does not exist, [`CheckpointError::Invalid`] with the file
    /// that is invalid.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let folder = path.as_ref();
        if folder.is_file() {
            return Self::open_file(folder);
        }
        let layout = layout::find(folder)?;
        let mut checkpoint = Self::empty(folder.to_owned());
        for path in layout.files {
            checkpoint.add(path)?;
        }
        if let Some((index, names)) = layout.index {
            for (name, file) in names {
                let found = checkpoint
                    .tensors
                    .get(&name)
                    .is_some_and(|(shard, _)| checkpoint.shards[*shard].path == file);
                if !found {
                    return Err(CheckpointError::invalid(
                        &index,
                        format!("{name:?} is not in {}", file.display()),
                    ));
                }
            }
        }
        Ok(checkpoint)
    }

    /// Opens one file: GGUF if its name ends in `.gguf`, else safetensors.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open_file(path: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let path = path.as_ref();
        let folder = path.parent().unwrap_or(path).to_owned();
        let mut checkpoint = Self::empty(folder);
        checkpoint.add(path.to_owned())?;
        Ok(checkpoint)
    }

    fn empty(folder: PathBuf) -> Self {
        Self { folder, shards: Vec::new(), tensors: HashMap::new(), gguf: None }
    }

    /// Adds the tensors of a file.
    fn add(&mut self, path: PathBuf) -> Result<(), CheckpointError> {
        let file = File::open(&path).map_err(|error| CheckpointError::io(&path, error))?;
        let shard = self.shards.len();
        let entries = if layout::is_gguf(&path) {
            let gguf = Gguf::read(&path, &file)?;
            let entries = gguf_entries(&gguf)?;
            self.gguf = Some(gguf);
            entries
        } else {
            header::read(&path, &file)?
        };
        for (name, entry) in entries {
            if let Some((other, _)) = self.tensors.insert(name.clone(), (shard, entry)) {
                let other = self.shards[other].path.display().to_string();
                return Err(CheckpointError::invalid(&path, format!("tensor {name:?} is also in {other}")));
            }
        }
        self.shards.push(Shard { path, file });
        Ok(())
    }

    /// The header and metadata, if this is a GGUF file.
    pub fn gguf(&self) -> Option<&Gguf> {
        self.gguf.as_ref()
    }

    /// The folder of the checkpoint; for a single file, its parent folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Names of all tensors, in no particular order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Type, shape and location of the tensor `name`.
    pub fn entry(&self, name: &str) -> Option<&TensorEntry> {
        self.tensors.get(name).map(|(_, entry)| entry)
    }

    /// Type, shape and location of every tensor, in no particular order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &TensorEntry> {
        self.tensors.values().map(|(_, entry)| entry)
    }

    /// Path of the first file.
    pub(crate) fn first_file(&self) -> &Path {
        self.shards.first().map_or(&self.folder, |shard| &shard.path)
    }

    /// Lines that differ when the content differs: name, size and modification time of each file, and the header
    /// entry of each tensor.
    pub(crate) fn identity(&self) -> Vec<String> {
        let facts = |shard: &Shard| {
            let facts = shard.file.metadata().map(|facts| (facts.len(), facts.mtime(), facts.mtime_nsec()));
            format!("{:?} {:?}", shard.path.file_name(), facts.ok())
        };
        let mut tensors: Vec<String> = self
            .tensors
            .iter()
            .map(|(name, (shard, entry))| {
                format!("{name:?} {shard} {:?} {:?} {}", entry.kind, entry.shape, entry.offset)
            })
            .collect();
        tensors.sort_unstable();
        self.shards.iter().map(facts).chain(tensors).collect()
    }

    /// Bytes of all tensors as stored.
    pub fn stored_bytes(&self) -> u64 {
        self.tensors.values().map(|(_, entry)| entry.bytes).sum()
    }

    /// The file of the tensor `name`, for messages; the folder if there is no such tensor.
    pub fn file_of(&self, name: &str) -> &Path {
        self.tensors.get(name).map_or(&self.folder, |(shard, _)| &self.shards[*shard].path)
    }

    /// A [`CheckpointError::Invalid`] about tensor `name`, with its file.
    pub fn invalid(&self, name: &str, reason: impl std::fmt::Display) -> CheckpointError {
        CheckpointError::invalid(self.file_of(name), format!("tensor {name:?}: {reason}"))
    }

    /// Parses the folder's `config.json`.
    ///
    /// # Errors
    /// As [`read_json`].
    pub fn config<T: DeserializeOwned>(&self) -> Result<T, CheckpointError> {
        read_json(&self.folder.join("config.json"))
    }

    /// Reads a tensor into host memory as it is stored (`F8_E4M3` as libtorch's `Float8e4m3fn`, quantised blocks as
    /// bytes `[…, bytes]`).
    ///
    /// # Errors
    /// [`CheckpointError::Invalid`] when the tensor does not exist or the file is truncated;
    /// [`TensorError::OutOfMemory`].
    pub fn read(&self, name: &str) -> Result<Tensor, TensorError> {
        let (shard, entry) = self.find(name)?;
        let tensor = Tensor::f_empty(entry.read_shape(), (entry.kind.libtorch(), Device::Cpu))?;
        shard.read_into(entry.offset, fresh_bytes(&tensor))?;
        Ok(tensor)
    }

    /// Reads the bytes of a tensor into `memory`, which must have exactly the tensor's size.
    pub(crate) fn read_bytes(&self, name: &str, memory: &mut [u8]) -> Result<(), TensorError> {
        let (shard, entry) = self.find(name)?;
        if entry.bytes != memory.len() as u64 {
            let reason = format!("has {} bytes, {} were expected", entry.bytes, memory.len());
            return Err(self.invalid(name, reason).into());
        }
        Ok(shard.read_into(entry.offset, memory)?)
    }

    /// Reads only the rows `rows` of a tensor, as stored. Large embedding tables can stay on disk.
    ///
    /// # Errors
    /// As [`Checkpoint::read`]; [`CheckpointError::Invalid`] also for a row outside the tensor.
    pub fn read_rows(&self, name: &str, rows: &[i64]) -> Result<Tensor, TensorError> {
        let (shard, entry) = self.find(name)?;
        let mut shape = entry.read_shape();
        let Some(count) = shape.first_mut() else {
            return Err(self.invalid(name, "has no rows").into());
        };
        let stored = std::mem::replace(count, rows.len() as i64);
        let tensor = Tensor::f_empty(&shape, (entry.kind.libtorch(), Device::Cpu))?;
        let row_bytes = entry.bytes / u64::try_from(stored).unwrap_or(0).max(1);
        let memory = fresh_bytes(&tensor);
        let pieces = memory.chunks_mut(usize::try_from(row_bytes).unwrap_or(0).max(1));
        for (&row, piece) in rows.iter().zip(pieces) {
            if !(0..stored).contains(&row) {
                return Err(self.invalid(name, format!("has no row {row}")).into());
            }
            shard.read_into(entry.offset + row.unsigned_abs() * row_bytes, piece)?;
        }
        Ok(tensor)
    }

    fn find(&self, name: &str) -> Result<(&Shard, &TensorEntry), CheckpointError> {
        let (shard, entry) =
            self.tensors.get(name).ok_or_else(|| self.invalid(name, "is not in the checkpoint"))?;
        Ok((&self.shards[*shard], entry))
    }
}

fn gguf_entries(gguf: &Gguf) -> Result<HashMap<String, TensorEntry>, CheckpointError> {
    let too_large = |_| CheckpointError::invalid(gguf.path(), "a dimension is too large");
    gguf.tensors()
        .iter()
        .map(|tensor| {
            let shape = tensor.shape.iter().map(|&size| i64::try_from(size).map_err(too_large));
            let entry = TensorEntry {
                kind: StoredDtype::of_ggml(tensor.kind),
                shape: shape.collect::<Result<_, _>>()?,
                offset: tensor.offset,
                bytes: tensor.bytes,
            };
            Ok((tensor.name.clone(), entry))
        })
        .collect()
}

impl From<GgufError> for CheckpointError {
    fn from(error: GgufError) -> Self {
        match error {
            GgufError::Io { file, error } => Self::io(file, error),
            GgufError::Invalid { file, reason } => Self::invalid(file, reason),
        }
    }
}

/// The memory of a tensor that was just allocated and has no other reference.
#[expect(clippy::mut_from_ref, reason = "tch writes through shared references too")]
fn fresh_bytes(tensor: &Tensor) -> &mut [u8] {
    let bytes = tensor.numel() * tensor.kind().elt_size_in_bytes();
    if bytes == 0 {
        return &mut [];
    }
    // SAFETY: a new tensor is contiguous host memory of exactly `bytes` bytes, any bit pattern is a valid value of
    // the stored types, and the callers hold the only reference.
    unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<u8>(), bytes) }
}

impl Shard {
    /// Reads directly into `memory` and releases the page cache after each chunk: on unified memory the cache would
    /// count against the GPU's.
    fn read_into(&self, mut offset: u64, memory: &mut [u8]) -> Result<(), CheckpointError> {
        for chunk in memory.chunks_mut(READ_BYTES) {
            self.file.read_exact_at(chunk, offset).map_err(|error| match error.kind() {
                std::io::ErrorKind::UnexpectedEof => {
                    CheckpointError::invalid(&self.path, "the file is truncated")
                }
                _ => CheckpointError::caused_by(&self.path, error),
            })?;
            if let (Ok(start), Ok(length)) =
                (libc::off_t::try_from(offset), libc::off_t::try_from(chunk.len()))
            {
                // SAFETY: advice about an open file descriptor; no memory is involved, and an error has no
                // consequence.
                unsafe {
                    libc::posix_fadvise(self.file.as_raw_fd(), start, length, libc::POSIX_FADV_DONTNEED)
                };
            }
            offset += chunk.len() as u64;
        }
        Ok(())
    }
}

/// Reads and parses a JSON file of at most 64 MiB.
///
/// # Errors
/// [`CheckpointError::Missing`] when the file does not exist, [`CheckpointError::Invalid`] when it cannot be parsed.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, CheckpointError> {
    let bytes = read_bounded(path, MAX_JSON_BYTES)?;
    serde_json::from_slice(&bytes).map_err(|error| match videosdgx_gguf::lfs_pointer(&bytes) {
        Some(reason) => CheckpointError::invalid(path, reason),
        None => CheckpointError::caused_by(path, error),
    })
}

/// Reads a complete file of at most `limit` bytes.
///
/// # Errors
/// [`CheckpointError::Missing`] when the file does not exist, [`CheckpointError::Invalid`] when it is longer.
pub fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, CheckpointError> {
    use std::io::Read as _;
    let file = File::open(path).map_err(|error| CheckpointError::io(path, error))?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|error| CheckpointError::io(path, error))?;
    if bytes.len() as u64 > limit {
        return Err(CheckpointError::invalid(path, format!("longer than {limit} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod gguf_tests;
#[cfg(test)]
mod tests;
