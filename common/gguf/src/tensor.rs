//! The header entry of a tensor.

use crate::GgmlType;

/// Type, shape and location of one tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name in the file, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// Element type.
    pub kind: GgmlType,
    /// Dimensions, outermost first (the file stores them innermost first); at most four.
    pub shape: Vec<u64>,
    /// Offset of the first byte, from the start of the file.
    pub offset: u64,
    /// Size in bytes. The range is inside the file and overlaps no other tensor.
    pub bytes: u64,
}
