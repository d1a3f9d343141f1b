//! What video autoencoders share: convolutions over `[frames, height, width, channels]`, the caches of those over time,
//! normalisation over channels, tiles, and frames as bytes.

mod cache;
mod conv;
mod frames;
mod norm;
mod norm_kernel;
mod tiling;

pub(crate) use cache::{FeatureCache, Slots, remember};
pub(crate) use conv::{CHUNK_ELEMENTS, Conv2d, FrameConv, frames_together, size4};
pub(crate) use frames::rgb_frames;
pub(crate) use norm::ChannelNorm;
pub(crate) use tiling::Grid;
pub use tiling::Tiling;

use videosdgx_tensor::TensorError;

/// Which halves of an autoencoder to load: text to video does not need the encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VaeParts {
    /// Decoder only.
    Decoder,
    /// Encoder and decoder.
    Both,
}

pub(crate) fn shape_error(what: &str, want: &str, size: &[i64]) -> TensorError {
    TensorError::Libtorch(format!("{what} must be {want}, not {size:?}"))
}

pub(crate) fn encoder_not_loaded() -> TensorError {
    TensorError::Libtorch("the encoder of the autoencoder is not loaded".to_owned())
}
