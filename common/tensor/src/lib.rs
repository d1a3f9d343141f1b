//! The libtorch layer of VideosDGX: published checkpoints, linear layers in every weight format, normalisations,
//! attention, the paged KV cache, devices and element types.
//!
//! Loading returns errors. Computing with loaded models uses tch's operators, which panic when libtorch reports an
//! error, and runs inside [`catch_libtorch_errors`], which turns the panic into a [`TensorError`].
//!
//! ```no_run
//! use std::sync::Arc;
//! use videosdgx_tensor::{Checkpoint, Device, Kind, Quantization, TensorError, Weights};
//!
//! # fn main() -> Result<(), TensorError> {
//! let checkpoint = Arc::new(Checkpoint::open("models/qwen3-0.6b")?);
//! let weights = Weights::new(checkpoint, Device::Cpu, Kind::BFloat16, Quantization::Nf4);
//! let query = weights.at("model.layers.0.self_attn").linear("q_proj", 1024, 2048, false)?;
//! println!("{} bytes", query.resident_bytes());
//! # Ok(())
//! # }
//! ```

#[cfg(test)]
extern crate self as videosdgx_tensor;

mod attention;
mod checkpoint;
mod code_pages;
mod cpu;
mod cuda;
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
mod row_modulation;
mod simd;
#[cfg(test)]
mod test_support;
mod timestep_waves;
mod weight_cache;
mod weights;

pub use attention::attention;
pub use checkpoint::{
    Checkpoint, StoredDtype, TensorEntry, file_fingerprint, folder_fingerprint, read_bounded, read_json,
    read_metadata, write_f32_tensors,
};
pub use code_pages::release_code_pages;
pub use cpu::{
    BlockFormat, BlockMatrix, CodeBits, RotaryAngles, RotaryStyle, RowBlocks, ScaleKind, ZeroPoint,
    add_rms_norm, geglu, linear_decoded_rows, linear_few_rows, rms_norm, rotate_heads, swiglu,
};
pub use cuda::cuda_memory;
pub use device::{ChosenDevice, choose_device, cpu_has_bf16, resolve_kind, set_threads, use_passive_waiting};
pub use embedding::Embedding;
pub use error::{CheckpointError, TensorError, catch_libtorch_errors, check_finite};
pub use expert_bank::{ExpertBank, ExpertShape};
pub use half::{bf16, f16};
pub use host::{HostElement, HostFloat};
pub use linear::{AdaptableLayers, LayerDelta, LayerShape, Linear};
pub use memory::{release_memory, resident_bytes};
pub use norm::{LayerNorm, RmsNorm, rms_modulated};
pub use paged::{AttentionSpan, CACHE_BLOCK_TOKENS, KvCache, KvCacheShape, PagedSegment, ValueStorage};
pub use residual::gated_add;
pub use rope::{Rope, norm_rotate};
pub use row_modulation::RowModulation;
pub use tch::{Device, Kind, Tensor};
pub use timestep_waves::timestep_waves;
pub use videosdgx_api::{DeviceChoice, DtypeChoice, Quantization};
pub use weights::Weights;
