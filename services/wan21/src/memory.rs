//! How much memory a checkpoint will need, before any of it is taken.

use tch::Kind;
use videosdgx_api::Resolution;
use videosdgx_tensor::Quantization;

use crate::folder::CheckpointFolder;

/// Live tensors of a transformer block at its widest (the feed-forward), in units of one hidden state.
const BLOCK_WIDTH: u64 = 16;
/// Live tensors of the VAE's widest stage in units of one frame of features: a chunk of four, its caches and copies.
const DECODER_WIDTH: u64 = 20;
/// libtorch's own: thread pools, workspaces, code that becomes resident when it is first used.
const RUNTIME_BYTES: u64 = 200 << 20;

/// What a pipeline takes in each of its stages, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Estimate {
    /// Weights of the text encoder (and image encoder).
    pub(crate) encoders: u64,
    /// Weights of transformer and VAE.
    pub(crate) generator: u64,
    /// Most that one job of this size takes beside the weights.
    pub(crate) activations: u64,
}

impl Estimate {
    /// Everything stays in memory.
    #[must_use]
    pub(crate) fn resident_peak(&self) -> u64 {
        self.encoders + self.generator + self.activations + RUNTIME_BYTES
    }

    /// The encoders leave before denoising begins and come back for the next new prompt.
    #[must_use]
    pub(crate) fn tight_peak(&self) -> u64 {
        self.encoders.max(self.generator + self.activations) + RUNTIME_BYTES
    }
}

/// Estimates for jobs of `resolution` × `frames`.
#[must_use]
pub(crate) fn estimate(
    folder: &CheckpointFolder,
    kind: Kind,
    quantization: Quantization,
    resolution: Resolution,
    frames: u32,
) -> Estimate {
    let element = kind.elt_size_in_bytes() as u64;
    let linears = quantization.weight_bytes(folder.transformer.parameters, element);
    let image_encoder = folder.image_encoder.map_or(0, |component| component.parameters);
    let pixels = u64::from(resolution.width) * u64::from(resolution.height);
    // 8 × 8 pixels and 4 frames a latent, 2 × 2 latents a token; prompt and negative prompt run together.
    let tokens = pixels / 256 * (u64::from(frames).div_ceil(4) + 1);
    let denoising = 2 * tokens * folder.hidden * BLOCK_WIDTH * element;
    let decoding = pixels * folder.vae_base * DECODER_WIDTH * element;
    Estimate {
        encoders: (folder.text_encoder.parameters + image_encoder) * element,
        generator: linears + folder.vae.parameters * element,
        activations: denoising.max(decoding),
    }
}
