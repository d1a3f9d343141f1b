//! Weight formats: decodes stored bytes exactly, and quantises values while loading.
//!
//! A format is recognised by the names, types and shapes of a layer's tensors, never by a repository's name. Each
//! format is decoded in f32 in the order of operations of its reference implementation, so that the values are
//! bit-identical to the reference's.

mod device;
pub(crate) mod e4m3;
mod fp8;
mod ggml;
mod host_weight;
mod nf4;
mod nvfp4;
mod packed;
mod read;
mod write;

pub(crate) use device::DeviceMatrix;
pub(crate) use fp8::Fp8;
pub(crate) use ggml::Ggml;
pub(crate) use host_weight::HostWeight;
pub(crate) use nf4::Nf4;
pub(crate) use nvfp4::Nvfp4;
pub(crate) use packed::{PackedRows, PackedWeight};
pub(crate) use read::{contains, read, read_rows, read_slice, single_scale};
pub(crate) use write::write;

use crate::TensorError;
use crate::cpu::Pages;

/// `count` bytes of zeroed memory.
fn allocate(count: u64) -> Result<Pages, TensorError> {
    let bytes = usize::try_from(count).map_err(|_| TensorError::OutOfMemory(format!("{count} bytes")))?;
    Pages::zeroed(bytes)
}

#[cfg(test)]
mod bad_tensors;
#[cfg(test)]
mod fp8_tests;
#[cfg(test)]
mod tests;
