//! The complete header of one file.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::folder::{SPLIT, lfs_pointer};
use crate::reader::Reader;
use crate::{GgmlType, GgufError, TensorInfo, Value};

/// The first four bytes, little-endian.
const MAGIC: u32 = u32::from_le_bytes(*b"GGUF");
/// Longest metadata key and longest tensor name, in bytes. ggml itself limits names to 64 bytes.
const MAX_NAME_BYTES: usize = 65_535;
/// Maximum number of dimensions of a tensor: ggml's limit.
const MAX_RANK: u32 = 4;
/// Bytes that are enough to recognise a Git LFS pointer.
const LFS_PREFIX_BYTES: usize = 64;
const DEFAULT_ALIGNMENT: u64 = 32;
const MAX_ALIGNMENT: u64 = 1 << 20;
/// Smallest size of a metadata entry, in bytes: the length of a key, a type and one byte of value.
const LEAST_ENTRY_BYTES: u64 = 8 + 4 + 1;
/// Smallest size of a tensor entry, in bytes: the length of a name, the rank, the type and the offset.
const LEAST_TENSOR_BYTES: u64 = 8 + 4 + 4 + 8;

/// A checked header: metadata by key and tensors by name. [`Gguf::str`] and the other typed getters read the
/// metadata.
///
/// ```no_run
/// # fn main() -> Result<(), videosdgx_gguf::GgufError> {
/// let gguf = videosdgx_gguf::Gguf::open("model.gguf")?;
/// for tensor in gguf.tensors() {
///     println!("{} {:?} {}", tensor.name, tensor.shape, tensor.kind);
/// }
/// let context = gguf.u32(&gguf.model_key("context_length"));
/// # let _ = context;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Gguf {
    path: PathBuf,
    version: u32,
    pub(crate) metadata: BTreeMap<String, Value>,
    tensors: Vec<TensorInfo>,
    places: HashMap<String, usize>,
    data_start: u64,
}

impl Gguf {
    /// Reads and checks the header of the file at `path`.
    ///
    /// # Errors
    /// [`GgufError::Io`] when the file cannot be read; [`GgufError::Invalid`] when the header is not well-formed or a
    /// tensor is outside the file, misaligned or overlaps another.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, GgufError> {
        let path = path.as_ref();
        let file = File::open(path).map_err(|error| GgufError::io(path, error))?;
        Self::read(path, &file)
    }

    /// Reads and checks the header of an open file; `path` is used in error messages only.
    ///
    /// # Errors
    /// As [`Gguf::open`].
    pub fn read(path: &Path, file: &File) -> Result<Self, GgufError> {
        let file_bytes = file.metadata().map_err(|error| GgufError::io(path, error))?.len();
        let mut start = [0; LFS_PREFIX_BYTES];
        let read = file.read_at(&mut start, 0).map_err(|error| GgufError::io(path, error))?;
        if let Some(reason) = lfs_pointer(&start[..read]) {
            return Err(GgufError::invalid(path, reason));
        }
        let mut reader = Reader::new(path, file, file_bytes);
        let version = version(&mut reader)?;
        let tensor_count = reader.count("tensors", LEAST_TENSOR_BYTES)?;
        let metadata = metadata(&mut reader)?;
        if metadata.get("split.count").and_then(Value::as_u64).is_some_and(|count| count > 1) {
            return Err(reader.invalid(SPLIT));
        }
        let alignment = alignment(&reader, &metadata)?;
        let mut tensors = Vec::new();
        for _ in 0..tensor_count {
            tensors.push(tensor(&mut reader)?);
        }
        let data_start = reader.position().next_multiple_of(alignment);
        for tensor in &mut tensors {
            place(tensor, data_start, alignment, file_bytes)
                .map_err(|reason| GgufError::invalid(path, format!("tensor {:?}: {reason}", tensor.name)))?;
        }
        let mut places = HashMap::with_capacity(tensors.len());
        for (index, tensor) in tensors.iter().enumerate() {
            if places.insert(tensor.name.clone(), index).is_some() {
                return Err(GgufError::invalid(path, format!("two tensors are named {:?}", tensor.name)));
            }
        }
        no_overlap(&tensors).map_err(|reason| GgufError::invalid(path, reason))?;
        Ok(Self { path: path.to_owned(), version, metadata, tensors, places, data_start })
    }

    /// Path of the file, as given to [`Gguf::open`] or [`Gguf::read`].
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Version of the format: 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// All tensors, in the order of the file.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor named `name`.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.places.get(name).map(|&index| &self.tensors[index])
    }

    /// Offset of the first byte of tensor data, from the start of the file.
    pub fn data_start(&self) -> u64 {
        self.data_start
    }
}

fn version(reader: &mut Reader<'_>) -> Result<u32, GgufError> {
    let magic = reader.u32()?;
    if magic != MAGIC {
        return Err(reader.invalid("is not a GGUF file"));
    }
    match reader.u32()? {
        version @ (2 | 3) => Ok(version),
        version if matches!(version.swap_bytes(), 1..=3) => {
            Err(reader.invalid("is a big-endian GGUF file; only little-endian files are supported"))
        }
        version => Err(reader.invalid(format!("has GGUF version {version}; versions 2 and 3 are supported"))),
    }
}

fn metadata(reader: &mut Reader<'_>) -> Result<BTreeMap<String, Value>, GgufError> {
    let count = reader.count("metadata entries", LEAST_ENTRY_BYTES)?;
    let mut metadata = BTreeMap::new();
    for _ in 0..count {
        let key = name(reader)?;
        let value = reader.value()?;
        if metadata.contains_key(&key) {
            return Err(reader.invalid(format!("the metadata has {key:?} twice")));
        }
        metadata.insert(key, value);
    }
    Ok(metadata)
}

fn name(reader: &mut Reader<'_>) -> Result<String, GgufError> {
    let name = reader.string()?;
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Err(reader.invalid(format!("a name of {} bytes", name.len())));
    }
    Ok(name)
}

fn alignment(reader: &Reader<'_>, metadata: &BTreeMap<String, Value>) -> Result<u64, GgufError> {
    let Some(value) = metadata.get("general.alignment") else { return Ok(DEFAULT_ALIGNMENT) };
    match value.as_u64() {
        Some(alignment) if alignment.is_power_of_two() && alignment <= MAX_ALIGNMENT => Ok(alignment),
        _ => Err(reader
            .invalid(format!("general.alignment is {value:?}, not a power of two up to {MAX_ALIGNMENT}"))),
    }
}

/// Reads the entry of one tensor; its offset is still relative to the start of the data.
fn tensor(reader: &mut Reader<'_>) -> Result<TensorInfo, GgufError> {
    let name = name(reader)?;
    let rank = reader.u32()?;
    if rank > MAX_RANK {
        return Err(reader.invalid(format!("tensor {name:?}: {rank} dimensions")));
    }
    let mut shape = (0..rank).map(|_| reader.u64()).collect::<Result<Vec<_>, _>>()?;
    shape.reverse();
    let id = reader.u32()?;
    let kind = GgmlType::from_id(id)
        .ok_or_else(|| reader.invalid(format!("tensor {name:?}: unknown ggml type {id}")))?;
    let offset = reader.u64()?;
    let elements = shape.iter().try_fold(1u64, |product, &size| product.checked_mul(size));
    let bytes = kind.bytes(&shape).filter(|_| elements.is_some_and(|count| i64::try_from(count).is_ok()));
    let bytes = bytes.ok_or_else(|| {
        reader.invalid(format!(
            "tensor {name:?}: shape {shape:?} is not whole blocks of {kind}, or is too large"
        ))
    })?;
    Ok(TensorInfo { name, kind, shape, offset, bytes })
}

/// Makes the offset of a tensor relative to the start of the file, and checks it.
fn place(tensor: &mut TensorInfo, data_start: u64, alignment: u64, file_bytes: u64) -> Result<(), String> {
    let given = tensor.offset;
    if !given.is_multiple_of(alignment) {
        return Err(format!("offset {given} is not a multiple of {alignment}"));
    }
    let inside = data_start
        .checked_add(given)
        .filter(|start| start.checked_add(tensor.bytes).is_some_and(|end| end <= file_bytes));
    tensor.offset = inside.ok_or_else(|| {
        format!("{} bytes at offset {given} are outside the file of {file_bytes} bytes", tensor.bytes)
    })?;
    Ok(())
}

fn no_overlap(tensors: &[TensorInfo]) -> Result<(), String> {
    let mut spans: Vec<&TensorInfo> = tensors.iter().filter(|tensor| tensor.bytes > 0).collect();
    spans.sort_unstable_by_key(|tensor| tensor.offset);
    match spans.windows(2).find(|pair| pair[0].offset + pair[0].bytes > pair[1].offset) {
        Some(pair) => Err(format!("tensors {:?} and {:?} overlap", pair[0].name, pair[1].name)),
        None => Ok(()),
    }
}
