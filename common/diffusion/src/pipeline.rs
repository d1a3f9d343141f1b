//! A pipeline as the engine runs it: encode, denoise, decode, resumable after denoising.

use std::path::Path;

use tch::{Device, Kind};
use videosdgx_sound::Sound;
use videosdgx_tensor::{AdaptableLayers, Quantization, TensorError};

use crate::{Generation, LatentFile, LatentShape, Latents, PipelineError, Progress, Residency, Summary};

/// How a pipeline is loaded.
#[derive(Debug, Clone, Copy)]
pub struct PipelineOptions {
    /// Device of all tensors.
    pub device: Device,
    /// Compute type of encoders and transformer.
    pub kind: Kind,
    /// Compute type of the VAE.
    pub vae_kind: Kind,
    /// Weight format of the linears of the transformer's blocks.
    pub quantization: Quantization,
    /// Weight format of the linears of the text encoder.
    pub text_quantization: Quantization,
    /// Which stages are in memory at the same time.
    pub residency: Residency,
    /// Whether the VAE works on overlapping tiles (less memory) or on whole pictures.
    pub tiled_vae: bool,
}

impl PipelineOptions {
    /// Everything in `kind` on `device`, unquantised, all in memory, whole pictures.
    #[must_use]
    pub fn new(device: Device, kind: Kind) -> Self {
        Self {
            device,
            kind,
            vae_kind: kind,
            quantization: Quantization::None,
            text_quantization: Quantization::None,
            residency: Residency::Whole,
            tiled_vae: false,
        }
    }
}

/// A loaded checkpoint of one model family. Callbacks end a generation by returning an error.
pub trait Pipeline: Sized + Send + 'static {
    /// The conditioning of a generation: embeddings of prompts and pictures.
    type Conditions;

    /// Loads a checkpoint folder. With [`Residency::Staged`] only the first stage is loaded, and the other files are
    /// checked.
    ///
    /// # Errors
    /// [`PipelineError::Tensor`] naming what is missing, broken or not supported, or out of memory.
    fn load(folder: &Path, options: PipelineOptions) -> Result<Self, PipelineError>;

    /// Bytes of all weights in memory now.
    fn resident_bytes(&self) -> u64;

    /// Bytes of the transformer's weights in memory now.
    fn transformer_bytes(&self) -> u64;

    /// The layers that LoRAs can change while denoising, from [`videosdgx_tensor::Weights::adaptable`]. With
    /// [`Residency::Staged`] this loads what denoising needs, which then stays until it is done.
    ///
    /// # Errors
    /// As [`Pipeline::load`].
    fn adaptable_layers(&mut self) -> Result<AdaptableLayers, PipelineError>;

    /// Checks a request against the loaded checkpoint.
    ///
    /// # Errors
    /// [`PipelineError::Input`] naming the field.
    fn check(&self, generation: &Generation) -> Result<(), PipelineError>;

    /// Names and shapes of the tensors that denoising results in, as they are stored between attempts.
    fn latent_shapes(&self, generation: &Generation) -> Vec<LatentShape>;

    /// Encodes prompts and pictures; notices go to `summary`.
    ///
    /// # Errors
    /// [`PipelineError`].
    fn encode(
        &mut self,
        generation: &Generation,
        summary: &mut Summary,
    ) -> Result<Self::Conditions, PipelineError>;

    /// From noise of the request's seed to latents of [`Pipeline::latent_shapes`], f32.
    ///
    /// # Errors
    /// [`PipelineError`], or what `on_progress` returned.
    fn denoise<E: From<PipelineError>>(
        &mut self,
        generation: &Generation,
        conditions: &Self::Conditions,
        on_progress: impl FnMut(Progress) -> Result<(), E>,
    ) -> Result<Latents, E>;

    /// Decodes latents and passes each frame to `on_frame` as `width · height · 3` bytes of RGB.
    ///
    /// # Errors
    /// [`PipelineError`], also when the frames contain NaN or infinity before they become bytes, or what a callback returned.
    fn decode<E: From<PipelineError>>(
        &mut self,
        latents: &Latents,
        on_progress: impl FnMut(Progress) -> Result<(), E>,
        on_frame: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E>;

    /// Decodes the sound in the latents of a generation with [`Generation::audio`], from time 0 of the video; what is longer than
    /// the video is cut off later. Called before [`Pipeline::decode`]. `None` of models without sound.
    ///
    /// # Errors
    /// [`PipelineError`].
    fn decode_sound(&mut self, latents: &Latents) -> Result<Option<Sound>, PipelineError>;
}

/// Makes a video: `on_progress` is called before each stage, step and frame and may end it, `on_frame` gets each frame
/// as `width · height · 3` bytes of RGB. With `scratch` the latents are stored in that folder before they are decoded,
/// and read from it when an earlier attempt of the same request stored them. The sound, if there is any, is in the summary.
///
/// # Errors
/// [`PipelineError`], also when the latents contain NaN or infinity, or what a callback returned.
pub fn generate<P: Pipeline, E: From<PipelineError>>(
    pipeline: &mut P,
    generation: &Generation,
    scratch: Option<&Path>,
    mut on_progress: impl FnMut(Progress) -> Result<(), E>,
    on_frame: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<Summary, E> {
    pipeline.check(generation)?;
    on_progress(Progress::Encoding)?;
    let file = scratch.map(|folder| LatentFile::new(folder, generation.fingerprint()));
    let shapes = pipeline.latent_shapes(generation);
    let stored = file.as_ref().map(|file| file.read(&shapes)).transpose()?.flatten();
    let mut summary = Summary { resumed: stored.is_some(), ..Summary::default() };
    let latents = match stored {
        Some(latents) => latents,
        None => {
            let conditions = pipeline.encode(generation, &mut summary)?;
            let latents = pipeline.denoise(generation, &conditions, &mut on_progress)?;
            latents.check_finite().map_err(PipelineError::from)?;
            if let Some(file) = &file {
                file.write(&latents)?;
            }
            latents
        }
    };
    if generation.audio {
        on_progress(Progress::Decoding { done: 0, frames: generation.frames })?;
        summary.sound = match &generation.audio_input {
            Some(given) => Some(given.clone()),
            None => pipeline.decode_sound(&latents)?,
        };
        if summary.sound.as_ref().is_some_and(|sound| !sound.is_finite()) {
            return Err(PipelineError::from(TensorError::NotFinite { what: "the decoded sound" }).into());
        }
    }
    pipeline.decode(&latents, on_progress, on_frame)?;
    Ok(summary)
}
