//! How much memory a Wan 2.1 checkpoint will need in each stage.

use serde::Deserialize;
use videosdgx_api::Resolution;
use videosdgx_diffusion::{CheckpointFolder, MemoryEstimate, Settings, StageMemory};
use videosdgx_tensor::CheckpointError;

/// Live tensors of a transformer block at its widest (the feed-forward part), in units of one hidden state.
const BLOCK_WIDTH: u64 = 16;
/// Live tensors of the VAE's widest level in units of one frame of features: a chunk of four, its caches and copies.
const DECODER_WIDTH: u64 = 20;

/// The sizes from a checkpoint's configuration that descriptions and estimates depend on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WanSizes {
    /// Hidden size of the transformer.
    pub(crate) hidden: u64,
    /// Base width of the VAE.
    pub(crate) vae_base: u64,
}

#[derive(Deserialize)]
struct TransformerShape {
    num_attention_heads: u64,
    attention_head_dim: u64,
}

#[derive(Deserialize)]
struct VaeShape {
    base_dim: u64,
}

impl WanSizes {
    /// Reads `config.json` of transformer and VAE.
    pub(crate) fn read(folder: &CheckpointFolder) -> Result<Self, CheckpointError> {
        let transformer: TransformerShape = folder.config("transformer")?;
        let vae: VaeShape = folder.config("vae")?;
        let hidden = transformer.num_attention_heads.saturating_mul(transformer.attention_head_dim);
        Ok(Self { hidden, vae_base: vae.base_dim })
    }
}

/// Estimates for jobs of `resolution` × `frames`, in two stages: encoders, then transformer and VAE.
#[must_use]
pub(crate) fn estimate(
    folder: &CheckpointFolder,
    sizes: &WanSizes,
    settings: &Settings,
    resolution: Resolution,
    frames: u32,
) -> MemoryEstimate {
    let element = settings.kind.elt_size_in_bytes() as u64;
    let linears = settings.quantization.weight_bytes(folder.parameters_of("transformer"), element);
    let encoders = folder.parameters_of("text_encoder") + folder.parameters_of("image_encoder");
    let pixels = u64::from(resolution.width) * u64::from(resolution.height);
    // 8 × 8 pixels and 4 frames a latent, 2 × 2 latents a token; prompt and negative prompt are one batch.
    let tokens = pixels / 256 * (u64::from(frames).div_ceil(4) + 1);
    let denoising = 2 * tokens * sizes.hidden * BLOCK_WIDTH * element;
    let decoding = pixels * sizes.vae_base * DECODER_WIDTH * element;
    MemoryEstimate::new(vec![
        StageMemory { weights: encoders * element, activations: 0 },
        StageMemory {
            weights: linears + folder.parameters_of("vae") * element,
            activations: denoising.max(decoding),
        },
    ])
}
