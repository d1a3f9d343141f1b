//! How much memory an LTX-2 checkpoint will need in each stage.

use videosdgx_api::Resolution;
use videosdgx_diffusion::{CheckpointFolder, MemoryEstimate, Settings, StageMemory};
use videosdgx_video::ltx2_vae::Tiling;

use crate::configuration::Ltx2Configuration;

/// Live tensors of a transformer block at its widest (the feed-forward part), in units of one hidden state.
const BLOCK_WIDTH: u64 = 16;
/// Most bytes that decoding 20 seconds of sound needs beside the weights.
const SOUND_BYTES: u64 = 1 << 30;

/// Estimates for jobs of `resolution` × `frames`, in two stages: text encoder and connectors, then
/// everything else.
pub(crate) fn estimate(
    folder: &CheckpointFolder,
    configuration: &Ltx2Configuration,
    settings: &Settings,
    resolution: Resolution,
    frames: u32,
) -> Result<MemoryEstimate, String> {
    let element = settings.kind.elt_size_in_bytes() as u64;
    let linears = settings.quantization.weight_bytes(folder.parameters_of("transformer"), element);
    let small: u64 = ["vae", "audio_vae", "latent_upsampler"]
        .iter()
        .map(|part| folder.parameters_of(part) * element)
        .sum();
    // The vocoder computes in f32.
    let vocoder = folder.parameters_of("vocoder") * 4;
    let size = [i64::from(resolution.height), i64::from(resolution.width)];
    let (vae, transformer) = (&configuration.vae, &configuration.transformer);
    let factor = vae.spatial_factor();
    let tokens = vae.latent_frames(i64::from(frames)) * (size[0] / factor) * (size[1] / factor);
    let hidden = transformer.width().unsigned_abs();
    // A prompt and a negative prompt; the sound is a fraction of the picture.
    let denoising = 2 * tokens.unsigned_abs() * hidden * BLOCK_WIDTH * element;
    let tiling = Some(Tiling::default());
    let decoding = vae.decode_bytes(size, tiling, settings.kind, settings.device.device)?;
    let sound = SOUND_BYTES.min(folder.parameters_of("vocoder") * 64);
    Ok(MemoryEstimate::new(vec![
        StageMemory {
            weights: (folder.parameters_of("text_encoder") + folder.parameters_of("connectors")) * element,
            activations: prompt(configuration, element),
        },
        StageMemory { weights: linears + small + vocoder, activations: denoising.max(decoding).max(sound) },
    ]))
}

/// Bytes of all hidden states of a prompt and a negative prompt, twice: as the encoder returns them and as the connectors
/// take them.
fn prompt(configuration: &Ltx2Configuration, element: u64) -> u64 {
    let connectors = &configuration.connectors;
    let states = connectors.caption_channels.unsigned_abs() * connectors.text_proj_in_factor.unsigned_abs();
    2 * 2 * 1024 * states * element
}
