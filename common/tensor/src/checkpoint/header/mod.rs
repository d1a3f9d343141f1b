//! Reader of the safetensors header. Nothing in the header is trusted.
//!
//! Format: 8 bytes little-endian header length, that many bytes of JSON, then the data the offsets point into
//! (<https://github.com/huggingface/safetensors>).

mod metadata;

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use videosdgx_gguf::GgmlType;

pub use metadata::read_metadata;

use crate::CheckpointError;

/// Longest header that is read, in bytes; the largest published ones are below 1 MB.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// Largest number of tensors in one file.
const MAX_TENSORS: usize = 1_000_000;
/// Largest number of dimensions of a tensor.
const MAX_RANK: usize = 8;

/// Element type of a stored tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the format's own")]
pub enum StoredDtype {
    F64,
    F32,
    F16,
    Bf16,
    F8E4M3,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
    /// Quantised blocks of a GGUF file.
    Packed(GgmlType),
}

impl StoredDtype {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "F64" => Self::F64,
            "F32" => Self::F32,
            "F16" => Self::F16,
            "BF16" => Self::Bf16,
            "F8_E4M3" => Self::F8E4M3,
            "I64" => Self::I64,
            "I32" => Self::I32,
            "I16" => Self::I16,
            "I8" => Self::I8,
            "U8" => Self::U8,
            "BOOL" => Self::Bool,
            _ => return None,
        })
    }

    /// The type for a ggml type: plain types have a variant here, quantised ones are [`StoredDtype::Packed`].
    pub(super) fn of_ggml(kind: GgmlType) -> Self {
        match kind {
            GgmlType::F64 => Self::F64,
            GgmlType::F32 => Self::F32,
            GgmlType::F16 => Self::F16,
            GgmlType::Bf16 => Self::Bf16,
            GgmlType::I64 => Self::I64,
            GgmlType::I32 => Self::I32,
            GgmlType::I16 => Self::I16,
            GgmlType::I8 => Self::I8,
            packed => Self::Packed(packed),
        }
    }

    /// The libtorch type that the data are read as; quantised blocks are read as bytes.
    pub(super) fn libtorch(self) -> tch::Kind {
        match self {
            Self::F64 => tch::Kind::Double,
            Self::F32 => tch::Kind::Float,
            Self::F16 => tch::Kind::Half,
            Self::Bf16 => tch::Kind::BFloat16,
            Self::F8E4M3 => tch::Kind::Float8e4m3fn,
            Self::I64 => tch::Kind::Int64,
            Self::I32 => tch::Kind::Int,
            Self::I16 => tch::Kind::Int16,
            Self::I8 => tch::Kind::Int8,
            Self::U8 | Self::Packed(_) => tch::Kind::Uint8,
            Self::Bool => tch::Kind::Bool,
        }
    }

    /// Bytes of one element as libtorch reads it; 1 for quantised blocks.
    pub fn size(self) -> u64 {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::F8E4M3 | Self::I8 | Self::U8 | Self::Bool | Self::Packed(_) => 1,
        }
    }
}

/// Type, shape and location of one tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorEntry {
    /// Element type in the file.
    pub kind: StoredDtype,
    /// Dimensions, outermost first; in values, also for quantised blocks.
    pub shape: Vec<i64>,
    /// Offset of the first byte, from the start of the file.
    pub offset: u64,
    /// Size in bytes.
    pub bytes: u64,
}

impl TensorEntry {
    /// The shape of the tensor that is read; for quantised blocks, the innermost dimension is in bytes.
    pub(super) fn read_shape(&self) -> Vec<i64> {
        let mut shape = self.shape.clone();
        if let (StoredDtype::Packed(kind), Some(inner)) = (self.kind, shape.last_mut()) {
            let bytes = kind.bytes(&[inner.unsigned_abs()]);
            *inner = bytes.and_then(|bytes| bytes.try_into().ok()).unwrap_or(0);
        }
        shape
    }
}

/// The header entry of a tensor, unchecked.
#[derive(Deserialize)]
struct RawEntry {
    dtype: String,
    shape: RawShape,
    data_offsets: (u64, u64),
}

/// At most [`MAX_RANK`] dimensions: parsing stops at a longer list before it takes memory.
struct RawShape(Vec<u64>);

impl<'de> Deserialize<'de> for RawShape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = RawShape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of sizes")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sizes: A) -> Result<RawShape, A::Error> {
                let mut shape = Vec::new();
                while let Some(size) = sizes.next_element()? {
                    if shape.len() == MAX_RANK {
                        return Err(A::Error::custom(format_args!("more than {MAX_RANK} dimensions")));
                    }
                    shape.push(size);
                }
                Ok(RawShape(shape))
            }
        }
        deserializer.deserialize_seq(Visit)
    }
}

/// All entries of the header. A duplicate name is an error, and `__metadata__` takes no memory.
struct RawHeader(HashMap<String, RawEntry>);

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut entries = HashMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    if entries.len() == MAX_TENSORS {
                        return Err(A::Error::custom(format_args!("more than {MAX_TENSORS} tensors")));
                    }
                    let entry = map.next_value::<RawEntry>();
                    let entry =
                        entry.map_err(|error| A::Error::custom(format_args!("tensor {name:?}: {error}")))?;
                    if entries.contains_key(&name) {
                        return Err(A::Error::custom(format_args!("two tensors are named {name:?}")));
                    }
                    entries.insert(name, entry);
                }
                Ok(RawHeader(entries))
            }
        }
        deserializer.deserialize_map(Visit)
    }
}

/// Reads and checks the header of one file.
///
/// # Errors
/// [`CheckpointError::Invalid`] unless the header is well-formed and all tensors are inside the file without overlap.
pub(super) fn read(path: &Path, file: &File) -> Result<HashMap<String, TensorEntry>, CheckpointError> {
    let (header, data_start, file_bytes) = json(path, file)?;
    parse(&header, data_start, file_bytes).map_err(|error| CheckpointError::caused_by(path, error))
}

/// The JSON of the header, where the data begin, and the size of the file.
fn json(path: &Path, file: &File) -> Result<(Vec<u8>, u64, u64), CheckpointError> {
    let invalid = |reason: String| CheckpointError::invalid(path, reason);
    let file_bytes = file.metadata().map_err(|error| CheckpointError::io(path, error))?.len();
    let mut length = [0u8; 8];
    file.read_exact_at(&mut length, 0).map_err(|_| invalid("shorter than a safetensors header".into()))?;
    let mut start = [0u8; 64];
    let read = file.read_at(&mut start, 0).map_err(|error| CheckpointError::io(path, error))?;
    if let Some(reason) = videosdgx_gguf::lfs_pointer(&start[..read]) {
        return Err(invalid(reason.into()));
    }
    let header_bytes = u64::from_le_bytes(length);
    if header_bytes > MAX_HEADER_BYTES || header_bytes > file_bytes.saturating_sub(8) {
        return Err(invalid(format!("header of {header_bytes} bytes in a file of {file_bytes}")));
    }
    let mut header = vec![0u8; usize::try_from(header_bytes).map_err(|_| invalid("header too long".into()))?];
    file.read_exact_at(&mut header, 8).map_err(|error| CheckpointError::io(path, error))?;
    Ok((header, 8 + header_bytes, file_bytes))
}

/// Why a header is rejected.
#[derive(Debug, thiserror::Error)]
enum HeaderError {
    #[error("the header cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Invalid(String),
}

impl From<String> for HeaderError {
    fn from(reason: String) -> Self {
        Self::Invalid(reason)
    }
}

/// Parses the JSON of the header; tensors must be between `data_start` and `file_bytes`.
fn parse(
    header: &[u8],
    data_start: u64,
    file_bytes: u64,
) -> Result<HashMap<String, TensorEntry>, HeaderError> {
    let RawHeader(raw) = serde_json::from_slice(header)?;
    let mut entries = HashMap::with_capacity(raw.len());
    for (name, raw) in raw {
        let entry = check(&raw, data_start, file_bytes).map_err(|why| format!("tensor {name:?}: {why}"))?;
        entries.insert(name, entry);
    }
    no_overlap(&entries)?;
    Ok(entries)
}

fn check(raw: &RawEntry, data_start: u64, file_bytes: u64) -> Result<TensorEntry, String> {
    let kind = StoredDtype::parse(&raw.dtype).ok_or_else(|| format!("unknown dtype {:?}", raw.dtype))?;
    let RawShape(dimensions) = &raw.shape;
    let (begin, end) = raw.data_offsets;
    let bytes = dimensions
        .iter()
        .try_fold(kind.size(), |product, &size| product.checked_mul(size))
        .ok_or_else(|| format!("shape {dimensions:?} overflows"))?;
    if end.checked_sub(begin) != Some(bytes) {
        return Err(format!("offsets {begin}..{end} do not hold shape {dimensions:?} of {}", raw.dtype));
    }
    let offset = data_start
        .checked_add(begin)
        .filter(|_| data_start.checked_add(end).is_some_and(|end| end <= file_bytes));
    let offset = offset
        .ok_or_else(|| format!("offsets {begin}..{end} point outside the file of {file_bytes} bytes"))?;
    let shape =
        dimensions.iter().map(|&size| i64::try_from(size).map_err(|_| "dimension too large".to_owned()));
    Ok(TensorEntry { kind, shape: shape.collect::<Result<_, _>>()?, offset, bytes })
}

fn no_overlap(entries: &HashMap<String, TensorEntry>) -> Result<(), String> {
    let mut spans: Vec<_> = entries
        .iter()
        .filter(|(_, entry)| entry.bytes > 0)
        .map(|(name, entry)| (entry.offset, entry.bytes, name))
        .collect();
    spans.sort_unstable();
    for pair in spans.windows(2) {
        if pair[0].0 + pair[0].1 > pair[1].0 {
            return Err(format!("tensors {:?} and {:?} overlap", pair[0].2, pair[1].2));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
