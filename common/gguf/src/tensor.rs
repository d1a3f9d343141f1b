//! Where a tensor lies.

use crate::GgmlType;

/// Type, shape and place of one tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name in the file, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// Element type.
    pub kind: GgmlType,
    /// Dimensions, outermost first (the file has them innermost first), at most four.
    pub shape: Vec<u64>,
    /// First byte, from the start of the file.
    pub offset: u64,
    /// Number of bytes; they lie inside the file and overlap no other tensor's.
    pub bytes: u64,
}
