//! Reader of GGUF headers: metadata and tensor locations, with every length checked. Does not depend on libtorch.
//!
//! ```no_run
//! # fn main() -> Result<(), videosdgx_gguf::GgufError> {
//! let gguf = videosdgx_gguf::Gguf::open("model.gguf")?;
//! let layers = gguf.u32(&gguf.model_key("block_count"));
//! let tokens = gguf.strings("tokenizer.ggml.tokens");
//! # let _ = (layers, tokens);
//! # Ok(())
//! # }
//! ```
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, versions 2 and 3, little-endian. Reading
//! takes at most [`MAX_HEADER_BYTES`] of the file and about four times the header's size in memory, also for a
//! header with false lengths.

mod error;
mod folder;
mod ggml_type;
mod header;
mod metadata;
mod reader;
mod tensor;
mod value;

pub use error::GgufError;
pub use folder::{file_in, lfs_pointer};
pub use ggml_type::GgmlType;
pub use header::Gguf;
pub use reader::MAX_HEADER_BYTES;
pub use tensor::TensorInfo;
pub use value::{Array, Value};
