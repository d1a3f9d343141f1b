//! The networks of a checkpoint in two stages: those for prompts, and all others.

use std::path::Path;
use std::sync::Arc;

use videosdgx_diffusion::PipelineOptions;
use videosdgx_picture::Picture;
use videosdgx_sound::Sound;
use videosdgx_tensor::{
    AdaptableLayers, Checkpoint, Quantization, Tensor, TensorError, Weights, catch_libtorch_errors,
};
use videosdgx_video::ltx2_audio::{Ltx2AudioVae, Ltx2Vocoder};
use videosdgx_video::ltx2_vae::{Ltx2Upsampler, Ltx2Vae, Tiling, VaeParts};
use videosdgx_video::picture_tensor;

use crate::configuration::Ltx2Configuration;
use crate::transformer::LtxTransformer;

/// Transformer, autoencoders, vocoder and, if the checkpoint has one, upsampler.
pub(super) struct Generator {
    pub(super) transformer: LtxTransformer,
    pub(super) vae: Ltx2Vae,
    pub(super) audio_vae: Ltx2AudioVae,
    pub(super) vocoder: Ltx2Vocoder,
    pub(super) upsampler: Option<Ltx2Upsampler>,
    /// The transformer's linear layers.
    pub(super) layers: AdaptableLayers,
    options: PipelineOptions,
}

impl Generator {
    /// Loads all of them.
    pub(super) fn load(
        folder: &Path,
        configuration: &Ltx2Configuration,
        options: PipelineOptions,
    ) -> Result<Self, TensorError> {
        let PipelineOptions { device, kind, vae_kind, quantization, .. } = options;
        let weights = weights(&folder.join("transformer"), options, quantization)?.adaptable();
        let transformer = LtxTransformer::load(&weights, configuration.transformer.clone())?;
        warn_of_unused(&weights, "transformer");
        Ok(Self {
            transformer,
            vae: Ltx2Vae::load(&folder.join("vae"), VaeParts::Both, device, vae_kind)?,
            audio_vae: Ltx2AudioVae::load(&folder.join("audio_vae"), VaeParts::Both, device, kind)?,
            vocoder: Ltx2Vocoder::load(&folder.join("vocoder"), device)?,
            upsampler: (configuration.upsampler.is_some())
                .then(|| Ltx2Upsampler::load(&folder.join("latent_upsampler"), device, vae_kind))
                .transpose()?,
            layers: weights.adaptable_layers(),
            options,
        })
    }

    pub(super) fn resident_bytes(&self) -> u64 {
        self.transformer.resident_bytes()
            + self.vae.resident_bytes()
            + self.audio_vae.resident_bytes()
            + self.vocoder.resident_bytes()
            + self.upsampler.as_ref().map_or(0, Ltx2Upsampler::resident_bytes)
    }

    /// A given picture that fills `width × height` → normalised latents `[1, z, 1, rows, columns]` f32.
    pub(super) fn encode_picture(
        &self,
        picture: &Picture,
        width: i64,
        height: i64,
    ) -> Result<Tensor, TensorError> {
        catch_libtorch_errors(|| {
            let pixels = filling(picture, width, height) / 127.5 - 1.0;
            let pixels = pixels.unsqueeze(2).to_device(self.options.device);
            Ok(self.vae.normalize(&self.vae.encode(&pixels, self.tiling())?))
        })
    }

    /// Given sound → `latent_frames` normalised tokens `[1, latent_frames, channels]` f32; silence follows what is too short.
    pub(super) fn encode_sound(&self, sound: &Sound, latent_frames: i64) -> Result<Tensor, TensorError> {
        let vae = &self.audio_vae;
        catch_libtorch_errors(|| {
            let latents = vae.encode_sound(sound.samples(), sound.rate(), latent_frames)?;
            Ok(vae.normalize(&vae.pack(&latents)))
        })
    }

    pub(super) fn tiling(&self) -> Option<Tiling> {
        self.options.tiled_vae.then(Tiling::default)
    }
}

/// Weights of one component's folder.
pub(super) fn weights(
    folder: &Path,
    options: PipelineOptions,
    quantization: Quantization,
) -> Result<Weights, TensorError> {
    let files = Arc::new(Checkpoint::open(folder)?);
    Ok(Weights::new(files, options.device, options.kind, quantization))
}

/// Logs tensors that a network did not use.
pub(super) fn warn_of_unused(weights: &Weights, part: &str) {
    let unused = weights.unused();
    if let Some(first) = unused.first() {
        tracing::warn!(part, count = unused.len(), first, "unused tensors in the checkpoint's files");
    }
}

/// Scales a picture to cover `width × height` and crops it → `[1, 3, height, width]` f32 from 0 to 255.
///
/// As the authors' pipelines do: bilinear, without smoothing when it becomes smaller. Those also compress the picture with
/// H.264 first, as the pictures were that the models were trained with; this one takes it as it is (diffusers' `crf=0`).
fn filling(picture: &Picture, width: i64, height: i64) -> Tensor {
    let ours = [picture.width(), picture.height()].map(|side| side as f64);
    let scale = (width as f64 / ours[0]).max(height as f64 / ours[1]);
    let scaled = |side: f64, wanted: i64| ((side * scale).ceil() as i64).max(wanted);
    let (columns, rows) = (scaled(ours[0], width), scaled(ours[1], height));
    let pixels = picture_tensor(picture).unsqueeze(0);
    let pixels = pixels.upsample_bilinear2d([rows, columns], false, None, None);
    pixels.narrow(2, (rows - height) / 2, height).narrow(3, (columns - width) / 2, width)
}
