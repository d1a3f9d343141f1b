//! The causal video autoencoder of Wan 2.1 (`AutoencoderKLWan`): pixels to latents of 1/8 size and 1/4 rate, and back.
//!
//! Every convolution over time sees only the present and the past, and keeps the two frames it needs of the past in a
//! cache. So a video is encoded four frames and decoded one latent frame at a time, and the memory for it does not grow
//! with its length. Inside, activations are `[frames, height, width, channels]`, contiguous: libtorch's channels-last.

mod autoencoder;
mod blocks;
mod config;
mod conv;
mod decoder;
mod encoder;
mod norm;
mod norm_kernel;
mod resample;
mod tiling;

pub use autoencoder::{VaeParts, WanVae};
pub use config::VaeConfig;
pub use tiling::Tiling;
