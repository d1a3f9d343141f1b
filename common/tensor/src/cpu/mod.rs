//! CPU kernels for the operations that dominate text decoding; other devices use libtorch's operators.

mod activations;
mod block_kernel;
mod block_matrix;
mod coded;
mod dense;
mod gated;
pub(crate) mod lanes;
mod pages;
pub(crate) mod pool;
mod rms;
mod rotary;

pub use block_matrix::{BlockFormat, BlockMatrix, CodeBits, RowBlocks, ScaleKind, ZeroPoint};
pub(crate) use coded::{Code, CodedRow, CodedRows, E4m3, HighFirst, LowFirst, coded_rows, widen_rows};
pub use dense::{linear_decoded_rows, linear_few_rows};
pub use gated::{geglu, swiglu};
pub(crate) use pages::Pages;
pub use rms::{add_rms_norm, rms_norm};
pub use rotary::{RotaryAngles, RotaryStyle, rotate_heads};
