//! The safetensors header, parsed without trusting a byte of it.
//!
//! Format: 8 bytes little-endian header length, that many bytes of JSON, then the data the offsets point into
//! (<https://github.com/huggingface/safetensors>).

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::Deserialize;
use videosdgx_gguf::GgmlType;

use crate::CheckpointError;

/// Longest header that is read; the largest published ones are below 1 MB.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// Most tensors one file may name.
const MAX_TENSORS: usize = 1_000_000;
/// Most dimensions of a tensor.
const MAX_RANK: usize = 8;

/// Element type of a stored tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the format's own")]
pub enum StoredKind {
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
    /// Blocks of a GGUF file.
    Packed(GgmlType),
}

impl StoredKind {
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

    /// ggml's name of the type: the plain ones by ours, blocks as they are.
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

    /// libtorch's name of the type; packed blocks are bytes.
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

    /// Bytes of one element as libtorch reads it: of packed blocks, of one byte.
    pub fn size(self) -> u64 {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::F8E4M3 | Self::I8 | Self::U8 | Self::Bool | Self::Packed(_) => 1,
        }
    }
}

/// Where a tensor lies in its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Element type in the file.
    pub kind: StoredKind,
    /// Dimensions, outermost first, counted in values also where they lie in packed blocks.
    pub shape: Vec<i64>,
    /// First byte, from the start of the file.
    pub offset: u64,
    /// Number of bytes.
    pub bytes: u64,
}

impl Entry {
    /// The shape as it is read: of packed blocks, the innermost dimension in bytes.
    pub(super) fn read_shape(&self) -> Vec<i64> {
        let mut shape = self.shape.clone();
        if let (StoredKind::Packed(kind), Some(inner)) = (self.kind, shape.last_mut()) {
            let bytes = kind.bytes(&[inner.unsigned_abs()]);
            *inner = bytes.and_then(|bytes| bytes.try_into().ok()).unwrap_or(0);
        }
        shape
    }
}

#[derive(Deserialize)]
struct RawEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// Reads and checks the header of one file.
///
/// # Errors
/// [`CheckpointError::Invalid`] for anything but a well-formed header whose tensors lie inside the file without
/// overlap.
pub(super) fn read(path: &Path, file: &File) -> Result<HashMap<String, Entry>, CheckpointError> {
    let invalid = |reason: String| CheckpointError::invalid(path, reason);
    let file_bytes = file.metadata().map_err(|error| CheckpointError::io(path, &error))?.len();
    let mut length = [0u8; 8];
    file.read_exact_at(&mut length, 0).map_err(|_| invalid("shorter than a safetensors header".into()))?;
    let header_bytes = u64::from_le_bytes(length);
    if header_bytes > MAX_HEADER_BYTES || header_bytes > file_bytes.saturating_sub(8) {
        return Err(invalid(format!("header of {header_bytes} bytes in a file of {file_bytes}")));
    }
    let mut header = vec![0u8; usize::try_from(header_bytes).map_err(|_| invalid("header too long".into()))?];
    file.read_exact_at(&mut header, 8).map_err(|error| CheckpointError::io(path, &error))?;
    parse(&header, 8 + header_bytes, file_bytes).map_err(invalid)
}

/// Parses header JSON; `data_start` and `file_bytes` bound where tensors may lie.
fn parse(header: &[u8], data_start: u64, file_bytes: u64) -> Result<HashMap<String, Entry>, String> {
    let raw: HashMap<String, serde_json::Value> =
        serde_json::from_slice(header).map_err(|error| format!("header is not JSON: {error}"))?;
    if raw.len() > MAX_TENSORS {
        return Err(format!("{} tensors, at most {MAX_TENSORS} are read", raw.len()));
    }
    let mut entries = HashMap::with_capacity(raw.len());
    for (name, value) in raw {
        if name == "__metadata__" {
            continue;
        }
        let entry =
            RawEntry::deserialize(value).map_err(|error| format!("tensor {name:?}: {error}")).and_then(
                |raw| check(&raw, data_start, file_bytes).map_err(|why| format!("tensor {name:?}: {why}")),
            )?;
        entries.insert(name, entry);
    }
    no_overlap(&entries)?;
    Ok(entries)
}

fn check(raw: &RawEntry, data_start: u64, file_bytes: u64) -> Result<Entry, String> {
    let kind = StoredKind::parse(&raw.dtype).ok_or_else(|| format!("unknown dtype {:?}", raw.dtype))?;
    if raw.shape.len() > MAX_RANK {
        return Err(format!("{} dimensions", raw.shape.len()));
    }
    let (begin, end) = raw.data_offsets;
    let bytes = raw
        .shape
        .iter()
        .try_fold(kind.size(), |product, &size| product.checked_mul(size))
        .ok_or_else(|| format!("shape {:?} overflows", raw.shape))?;
    if end.checked_sub(begin) != Some(bytes) {
        return Err(format!("offsets {begin}..{end} do not hold shape {:?} of {}", raw.shape, raw.dtype));
    }
    let offset = data_start
        .checked_add(begin)
        .filter(|_| data_start.checked_add(end).is_some_and(|end| end <= file_bytes));
    let offset = offset
        .ok_or_else(|| format!("offsets {begin}..{end} point outside the file of {file_bytes} bytes"))?;
    let shape =
        raw.shape.iter().map(|&size| i64::try_from(size).map_err(|_| "dimension too large".to_owned()));
    Ok(Entry { kind, shape: shape.collect::<Result<_, _>>()?, offset, bytes })
}

fn no_overlap(entries: &HashMap<String, Entry>) -> Result<(), String> {
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
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn a_good_header_gives_offsets_from_the_start_of_the_file() {
        let header =
            br#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},
            "b":{"dtype":"BF16","shape":[],"data_offsets":[24,26]}}"#;
        let entries = parse(header, 100, 126).expect("parses");
        assert_eq!(entries["a"], Entry { kind: StoredKind::F32, shape: vec![2, 3], offset: 100, bytes: 24 });
        assert_eq!(entries["b"], Entry { kind: StoredKind::Bf16, shape: vec![], offset: 124, bytes: 2 });
    }

    #[rstest]
    #[case::not_json("{", "not JSON")]
    #[case::outside(r#"{"a":{"dtype":"U8","shape":[27],"data_offsets":[0,27]}}"#, "outside")]
    #[case::far_outside(
        r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[18446744073709551613,18446744073709551615]}}"#,
        "outside"
    )]
    #[case::backwards(r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[2,0]}}"#, "do not hold")]
    #[case::overflow(
        r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#,
        "overflows"
    )]
    #[case::wrong_size(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,7]}}"#, "do not hold")]
    #[case::overlap(r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[3,7]}}"#, "overlap")]
    #[case::dtype(r#"{"a":{"dtype":"Q9","shape":[1],"data_offsets":[0,1]}}"#, "unknown dtype")]
    #[case::negative(r#"{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}"#, "tensor")]
    #[case::rank(r#"{"a":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}}"#, "dimensions")]
    #[case::missing_field(r#"{"a":{"dtype":"U8","shape":[1]}}"#, "data_offsets")]
    fn a_bad_header_is_refused(#[case] header: &str, #[case] reason: &str) {
        let error = parse(header.as_bytes(), 100, 126).expect_err("refused");
        assert!(error.contains(reason), "{error}");
    }
}
