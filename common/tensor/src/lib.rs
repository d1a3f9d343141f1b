//! libtorch for VideosDGX: published checkpoints, linears in every weight format, norms, attention, device and type.
//!
//! Loading returns errors; arithmetic on loaded models uses tch's operators, which panic when libtorch refuses, and
//! runs inside [`catch_libtorch_errors`], which turns that into an error at one place.

mod attention;
mod checkpoint;
mod code_pages;
mod cpu;
mod device;
mod embedding;
mod error;
mod expert_bank;
mod host;
mod linear;
mod memory;
mod norm;
mod paged;
mod parallel;
mod quantized;
mod residual;
mod rope;
mod simd;
mod weight_cache;
mod weights;

pub use attention::attention;
pub use checkpoint::{Checkpoint, StoredDtype, TensorEntry, read_bounded, read_json};
pub use code_pages::release_code_pages;
pub use cpu::{
    BlockFormat, BlockMatrix, CodeBits, RotaryAngles, RotaryStyle, RowBlocks, ScaleKind, ZeroPoint,
    add_rms_norm, linear_decoded_rows, linear_few_rows, rms_norm, rotate_heads, swiglu,
};
pub use device::{cpu_has_bf16, resolve_device, resolve_kind, set_threads, use_passive_waiting};
pub use embedding::Embedding;
pub use error::{CheckpointError, TensorError, catch_libtorch_errors};
pub use expert_bank::{ExpertBank, ExpertShape};
pub use half::{bf16, f16};
pub use host::{HostElement, HostFloat};
pub use linear::Linear;
pub use memory::{release_memory, resident_bytes};
pub use norm::{LayerNorm, RmsNorm};
pub use paged::{CACHE_BLOCK_TOKENS, KvCache, KvCacheShape, PagedSegment, ValueStorage};
pub use residual::gated_add;
pub use rope::{Rope, norm_rotate};
pub use tch::{Device, Kind, Tensor};
pub use videosdgx_api::{DeviceChoice, DtypeChoice, Quantization};
pub use weights::Weights;
