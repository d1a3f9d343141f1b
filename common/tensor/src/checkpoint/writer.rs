//! Writes a safetensors file tensor by tensor, without holding it in memory.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tch::{Kind, Tensor};

/// Bytes reserved for the header at first; a longer header requires one copy of the file at the end.
const RESERVED_HEADER_BYTES: u64 = 1 << 20;
/// Bytes reserved for the header of a file with few tensors.
const SMALL_HEADER_BYTES: u64 = 4096 - 8;
/// The data begin at a multiple of this, as the format recommends.
const ALIGNMENT: u64 = 64;

/// Extension of temporary files.
pub(crate) const PARTIAL: &str = "partial";

/// A file with a temporary name, which [`SafetensorsWriter::finish`] renames.
pub(crate) struct SafetensorsWriter {
    file: Option<BufWriter<File>>,
    temporary: PathBuf,
    path: PathBuf,
    header: serde_json::Map<String, serde_json::Value>,
    reserved_header: u64,
    written: u64,
}

impl SafetensorsWriter {
    /// Creates the temporary file for `path`, whose folder must exist.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        Self::with_reserved_header(path, RESERVED_HEADER_BYTES)
    }

    fn with_reserved_header(path: &Path, reserved_header: u64) -> io::Result<Self> {
        // Process ids repeat in containers that share a folder; the time makes the name unique.
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let temporary = path.with_extension(format!("{}-{time}.{PARTIAL}", std::process::id()));
        let mut file = BufWriter::with_capacity(1 << 20, File::create_new(&temporary)?);
        file.seek(SeekFrom::Start(8 + reserved_header))?;
        Ok(Self {
            file: Some(file),
            temporary,
            path: path.to_owned(),
            header: serde_json::Map::new(),
            reserved_header,
            written: 0,
        })
    }

    /// Appends a tensor; `dtype` is the format's name of its type.
    pub(crate) fn add(&mut self, name: &str, dtype: &str, shape: &[usize], bytes: &[u8]) -> io::Result<()> {
        let file = self.file.as_mut().ok_or_else(|| io::Error::other("the file is finished"))?;
        file.write_all(bytes)?;
        let end = self.written + bytes.len() as u64;
        let entry =
            serde_json::json!({ "dtype": dtype, "shape": shape, "data_offsets": [self.written, end] });
        if self.header.insert(name.to_owned(), entry).is_some() {
            return Err(io::Error::other(format!("{name:?} was written twice")));
        }
        self.written = end;
        Ok(())
    }

    /// Number of tensors written so far.
    pub(crate) fn len(&self) -> usize {
        self.header.len()
    }

    /// Completes and syncs the file and renames it atomically.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        let file = self.file.take().ok_or_else(|| io::Error::other("the file is finished"))?;
        let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        let mut header = serde_json::to_vec(&self.header)?;
        if header.len() as u64 > self.reserved_header {
            let reserved = (header.len() as u64 + 8).next_multiple_of(ALIGNMENT) - 8;
            file = self.moved(reserved)?;
            self.reserved_header = reserved;
        }
        header.resize(usize::try_from(self.reserved_header).map_err(io::Error::other)?, b' ');
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&self.reserved_header.to_le_bytes())?;
        file.write_all(&header)?;
        file.sync_all()?;
        fs::rename(&self.temporary, &self.path)
    }

    /// Copies the data into a new file with `reserved` bytes reserved for the header.
    fn moved(&self, reserved: u64) -> io::Result<File> {
        let mut from = File::open(&self.temporary)?;
        fs::remove_file(&self.temporary)?;
        let mut to = File::create_new(&self.temporary)?;
        from.seek(SeekFrom::Start(8 + self.reserved_header))?;
        to.seek(SeekFrom::Start(8 + reserved))?;
        io::copy(&mut from.take(self.written), &mut to)?;
        Ok(to)
    }
}

/// Writes tensors as a safetensors file of f32 values: under a temporary name in the folder of `path`, synced, then renamed. A failed
/// write leaves nothing behind.
///
/// ```
/// use videosdgx_tensor::{Checkpoint, Tensor, write_f32_tensors};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("latents.safetensors");
/// write_f32_tensors(&path, &[("latents", Tensor::from_slice(&[1f32, 2.0]))])?;
/// assert_eq!(Checkpoint::open_file(&path)?.read("latents")?, Tensor::from_slice(&[1f32, 2.0]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// The system's error with its kind, so that a full disk can be recognised; an error of libtorch as
/// [`io::ErrorKind::Other`].
pub fn write_f32_tensors(path: &Path, tensors: &[(&str, Tensor)]) -> io::Result<()> {
    let mut writer = SafetensorsWriter::with_reserved_header(path, SMALL_HEADER_BYTES)?;
    for (name, tensor) in tensors {
        let shape: Result<Vec<usize>, _> = tensor.size().into_iter().map(usize::try_from).collect();
        let values = tensor.f_to_kind(Kind::Float).and_then(|tensor| tensor.f_contiguous());
        let values = values.and_then(|tensor| Vec::<f32>::try_from(tensor.f_flatten(0, -1)?));
        let bytes: Vec<u8> =
            values.map_err(io::Error::other)?.into_iter().flat_map(f32::to_le_bytes).collect();
        writer.add(name, "F32", &shape.map_err(io::Error::other)?, &bytes)?;
    }
    writer.finish()
}

impl Drop for SafetensorsWriter {
    /// Removes an unfinished file.
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.temporary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Checkpoint;

    #[test]
    fn content_is_read_back_for_any_reserved_header_size() {
        for reserved in [4096, 56, 0] {
            let folder = tempfile::tempdir().expect("temporary folder");
            let path = folder.path().join("a.safetensors");
            let mut writer = SafetensorsWriter::with_reserved_header(&path, reserved).expect("creates");
            writer.add("x", "U8", &[2, 3], &[1, 2, 3, 4, 5, 6]).expect("writes");
            writer.add("y", "F8_E4M3", &[1], &[0x38]).expect("writes");
            assert!(!path.exists(), "not before it is complete");
            assert_eq!(writer.len(), 2);
            writer.finish().expect("finishes");
            let checkpoint = Checkpoint::open_file(&path).expect("opens");
            let read: Vec<u8> = checkpoint.read("x").expect("reads").view([-1]).try_into().expect("bytes");
            assert_eq!(read, [1, 2, 3, 4, 5, 6]);
            assert_eq!(
                checkpoint.read("y").expect("reads").to_kind(tch::Kind::Float),
                tch::Tensor::from_slice(&[1f32])
            );
            assert_eq!(fs::read_dir(folder.path()).expect("lists").count(), 1);
        }
    }

    #[test]
    fn an_unfinished_file_leaves_nothing() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut writer = SafetensorsWriter::create(&folder.path().join("a.safetensors")).expect("creates");
        writer.add("x", "U8", &[1], &[1]).expect("writes");
        assert!(writer.add("x", "U8", &[1], &[1]).is_err(), "twice");
        drop(writer);
        assert_eq!(fs::read_dir(folder.path()).expect("lists").count(), 0);
    }
}
