//! The causal video autoencoder of Wan 2.1 (`AutoencoderKLWan`): pixels to latents of 1/8 size and 1/4 rate, and back.
//!
//! Every convolution over time is causal and keeps the two previous frames that it needs in a cache. So a video is
//! encoded four frames at a time and decoded one latent frame at a time, and memory does not grow with its length.
//! Activations are `[frames, height, width, channels]`, contiguous: libtorch's channels-last.
//!
//! ```no_run
//! use videosdgx_tensor::{Device, Kind, Tensor, TensorError, catch_libtorch_errors};
//! use videosdgx_video::wan_vae::{VaeParts, WanVae};
//!
//! # fn main() -> Result<(), TensorError> {
//! let folder = "models/wan2.1-t2v-1.3b/vae".as_ref();
//! let vae = WanVae::load(folder, VaeParts::Decoder, Device::Cpu, Kind::Float)?;
//! let latents = Tensor::zeros([1, 16, 3, 60, 104], (Kind::Float, Device::Cpu));
//! let mut frames = 0;
//! catch_libtorch_errors(|| {
//!     vae.decode_frames(&vae.denormalize(&latents), None, |rgb| {
//!         assert_eq!(rgb.len(), 480 * 832 * 3);
//!         frames += 1;
//!         Ok::<_, TensorError>(())
//!     })
//! })?;
//! assert_eq!(frames, 9);
//! # Ok(()) }
//! ```

mod autoencoder;
mod blocks;
mod condition;
mod config;
mod conv;
mod decoder;
mod encoder;
mod resample;

pub use autoencoder::WanVae;
pub use config::{TEMPORAL_FACTOR, WanVaeConfig};

pub use crate::autoencoder::{Tiling, VaeParts};
