//! LTX-2's video autoencoder (`AutoencoderKLLTX2Video`): pixels to latents of 1/32 size and 1/8 rate, and back; and the
//! upsampler of its latents.
//!
//! The encoder is causal and takes eight frames at a time. The published decoders are not: a frame depends on latents
//! after it. They still work in pieces, each layer a frame behind the one before it, so that frames come out one after the
//! other, equal to those of a decoder that sees the whole video, and memory does not grow with the video's length.
//! Activations are `[frames, height, width, channels]`, contiguous: libtorch's channels-last.
//!
//! ```no_run
//! use videosdgx_tensor::{Device, Kind, Tensor, TensorError, catch_libtorch_errors};
//! use videosdgx_video::ltx2_vae::{Ltx2Vae, VaeParts};
//!
//! # fn main() -> Result<(), TensorError> {
//! let vae = Ltx2Vae::load("models/ltx-2/vae".as_ref(), VaeParts::Decoder, Device::Cpu, Kind::Float)?;
//! let latents = Tensor::zeros([1, 128, 3, 16, 24], (Kind::Float, Device::Cpu));
//! let mut frames = 0;
//! catch_libtorch_errors(|| {
//!     vae.decode_frames(&vae.denormalize(&latents), None, |rgb| {
//!         assert_eq!(rgb.len(), 512 * 768 * 3);
//!         frames += 1;
//!         Ok::<_, TensorError>(())
//!     })
//! })?;
//! assert_eq!(frames, 17);
//! # Ok(()) }
//! ```

mod autoencoder;
mod blocks;
mod config;
mod conv;
mod decoder;
mod encoder;
mod latents;
mod memory;
mod plan;
mod resample;
mod upsampler;

pub use crate::autoencoder::{Tiling, VaeParts};
pub use autoencoder::Ltx2Vae;
pub use config::{Flags, Ltx2VaeConfig};
pub use latents::{adain_latents, tone_map_latents};
pub use upsampler::{Ltx2Upsampler, Ltx2UpsamplerConfig};
