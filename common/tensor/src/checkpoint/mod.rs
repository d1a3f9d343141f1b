//! Published checkpoints, unchanged: a diffusers or transformers folder of safetensors, whole or sharded, or a GGUF
//! file.

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

pub use header::{StoredDtype, TensorEntry};
pub(crate) use writer::{PARTIAL, SafetensorsWriter};

use crate::{CheckpointError, TensorError};

/// Bytes read from the file at a time; after each the pages are given back.
const READ_BYTES: usize = 16 << 20;
/// Longest JSON file that is read (a tokenizer of 256,000 words has 17 MB).
const MAX_JSON_BYTES: u64 = 64 << 20;

/// An opened checkpoint folder: every tensor's name, type, shape and place, no weights yet.
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
    /// Opens `path`: a folder that holds one `*.safetensors`, the shards a `*.safetensors.index.json` lists, or one
    /// `*.gguf`; or one such file itself. Every header is checked.
    ///
    /// # Errors
    /// [`CheckpointError::Missing`] names what is not there, [`CheckpointError::Invalid`] the file that is broken.
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

    /// Opens one safetensors or GGUF file (told by the name's ending).
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

    /// The header and metadata of the GGUF file this is.
    pub fn gguf(&self) -> Option<&Gguf> {
        self.gguf.as_ref()
    }

    /// The folder this was opened from.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Names of all tensors, in no order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Type, shape and place of a tensor.
    pub fn entry(&self, name: &str) -> Option<&TensorEntry> {
        self.tensors.get(name).map(|(_, entry)| entry)
    }

    /// Every tensor's type, shape and place, in no order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &TensorEntry> {
        self.tensors.values().map(|(_, entry)| entry)
    }

    /// The first of its files.
    pub(crate) fn first_file(&self) -> &Path {
        self.shards.first().map_or(&self.folder, |shard| &shard.path)
    }

    /// Lines that differ when the content does: of each file its name, size and time of change, of each tensor what the
    /// header says.
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

    /// The file a tensor lies in, for messages; the folder when there is none.
    pub fn file_of(&self, name: &str) -> &Path {
        self.tensors.get(name).map_or(&self.folder, |(shard, _)| &self.shards[*shard].path)
    }

    /// An error about tensor `name`, naming its file.
    pub fn invalid(&self, name: &str, reason: impl std::fmt::Display) -> CheckpointError {
        CheckpointError::invalid(self.file_of(name), format!("tensor {name:?}: {reason}"))
    }

    /// Parses `config.json` of this folder.
    ///
    /// # Errors
    /// As [`read_json`].
    pub fn config<T: DeserializeOwned>(&self) -> Result<T, CheckpointError> {
        read_json(&self.folder.join("config.json"))
    }

    /// Reads a tensor as it is stored (`F8_E4M3` as libtorch's `Float8e4m3fn`, packed blocks as bytes `[…, bytes]`) into
    /// host memory.
    ///
    /// # Errors
    /// `Invalid` when it is not in the checkpoint or the file ends early; `OutOfMemory`.
    pub fn read(&self, name: &str) -> Result<Tensor, TensorError> {
        let (shard, entry) = self.find(name)?;
        let tensor = Tensor::f_empty(entry.read_shape(), (entry.kind.libtorch(), Device::Cpu))?;
        shard.read_into(entry.offset, fresh_bytes(&tensor))?;
        Ok(tensor)
    }

    /// Reads the bytes of a tensor into `memory`, which has room for exactly them.
    pub(crate) fn read_bytes(&self, name: &str, memory: &mut [u8]) -> Result<(), TensorError> {
        let (shard, entry) = self.find(name)?;
        if entry.bytes != memory.len() as u64 {
            let reason = format!("has {} bytes, {} were expected", entry.bytes, memory.len());
            return Err(self.invalid(name, reason).into());
        }
        Ok(shard.read_into(entry.offset, memory)?)
    }

    /// Reads some rows of a tensor, as it is stored: a large embedding table can stay on the disk.
    ///
    /// # Errors
    /// As [`Checkpoint::read`]; `Invalid` also for a row that is not there.
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

/// The memory of a tensor that was made just now and that nobody else knows.
#[expect(clippy::mut_from_ref, reason = "tch writes through shared references too")]
fn fresh_bytes(tensor: &Tensor) -> &mut [u8] {
    let bytes = tensor.numel() * tensor.kind().elt_size_in_bytes();
    if bytes == 0 {
        return &mut [];
    }
    // SAFETY: a new tensor is contiguous host memory of exactly `bytes` bytes, any bit pattern is a value of the
    // stored types, and the callers hold its only name.
    unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<u8>(), bytes) }
}

impl Shard {
    /// Reads straight into `memory` and gives the page cache back as it goes: on unified memory the cache would
    /// count against the GPU.
    fn read_into(&self, mut offset: u64, memory: &mut [u8]) -> Result<(), CheckpointError> {
        for chunk in memory.chunks_mut(READ_BYTES) {
            self.file.read_exact_at(chunk, offset).map_err(|error| match error.kind() {
                std::io::ErrorKind::UnexpectedEof => CheckpointError::invalid(&self.path, "file ends early"),
                _ => CheckpointError::caused_by(&self.path, error),
            })?;
            if let (Ok(start), Ok(length)) =
                (libc::off_t::try_from(offset), libc::off_t::try_from(chunk.len()))
            {
                // SAFETY: advice about an open descriptor; no memory is involved and a refusal does not matter.
                unsafe {
                    libc::posix_fadvise(self.file.as_raw_fd(), start, length, libc::POSIX_FADV_DONTNEED)
                };
            }
            offset += chunk.len() as u64;
        }
        Ok(())
    }
}

/// Reads and parses a JSON file of a checkpoint, bounded in size.
///
/// # Errors
/// [`CheckpointError::Missing`] when there is no such file, [`CheckpointError::Invalid`] when it does not parse.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, CheckpointError> {
    let bytes = read_bounded(path, MAX_JSON_BYTES)?;
    serde_json::from_slice(&bytes).map_err(|error| CheckpointError::caused_by(path, error))
}

/// Reads a whole file of at most `limit` bytes.
///
/// # Errors
/// [`CheckpointError::Missing`] or [`CheckpointError::Invalid`].
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
