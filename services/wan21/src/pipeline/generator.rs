//! Transformer and VAE: from noise to latents to frames.

use std::path::Path;
use std::sync::Arc;

use videosdgx_diffusion::schedulers::Scheduler;
use videosdgx_diffusion::{
    CallbackError, GuidedContext, NoiseGenerator, PipelineError, PipelineOptions, denoise,
};
use videosdgx_picture::Picture;
use videosdgx_tensor::{
    AdaptableLayers, Checkpoint, CheckpointError, Kind, Tensor, TensorError, Weights, catch_libtorch_errors,
};
use videosdgx_video::wan_vae::{Tiling, VaeParts, WanVae};

use crate::transformer::{Context, TransformerConfig, WanTransformer};

pub(super) struct Generator {
    pub(super) transformer: WanTransformer,
    pub(super) vae: WanVae,
    /// The transformer's linear layers.
    pub(super) layers: AdaptableLayers,
    options: PipelineOptions,
}

/// The conditioning of a generation.
pub struct Conditions {
    /// `[tokens, text_dim]`.
    pub prompt: Tensor,
    /// `[tokens, text_dim]`; only with guidance.
    pub negative: Option<Tensor>,
    /// `[1, tokens, image_dim]`, for models that attend to an image.
    pub image: Option<Tensor>,
    /// `[1, channels, frames, rows, columns]` f32, concatenated to the latents for image to video.
    pub channels: Option<Tensor>,
    /// Scale of classifier-free guidance.
    pub guidance: f64,
}

impl Generator {
    pub(super) fn load(
        folder: &Path,
        config: TransformerConfig,
        options: PipelineOptions,
    ) -> Result<Self, TensorError> {
        let files = Arc::new(Checkpoint::open(folder.join("transformer"))?);
        let weights = Weights::new(files, options.device, options.kind, options.quantization).adaptable();
        let transformer = WanTransformer::load(&weights, config)?;
        let unused = weights.unused();
        if !unused.is_empty() {
            tracing::warn!(
                count = unused.len(),
                first = unused[0],
                "unused tensors in the transformer's files"
            );
        }
        let config = transformer.config();
        let parts = if config.takes_image() { VaeParts::Both } else { VaeParts::Decoder };
        let vae = WanVae::load(&folder.join("vae"), parts, options.device, options.vae_kind)?;
        let latents = vae.config().z_dim;
        let inputs = match parts {
            VaeParts::Decoder => latents,
            VaeParts::Both => latents + vae.config().condition_channels(),
        };
        if config.in_channels != inputs || config.outputs() != latents {
            let inputs = config.in_channels;
            let reason =
                format!("in_channels {inputs} does not fit the {latents} latent channels of the VAE");
            return Err(CheckpointError::invalid(folder.join("transformer/config.json"), reason).into());
        }
        Ok(Self { transformer, vae, layers: weights.adaptable_layers(), options })
    }

    /// Channels that condition a video of `frames` frames and latents of shape `latent` on its first frame.
    pub(super) fn first_frame(
        &self,
        picture: &Picture,
        latent: &[i64],
        frames: i64,
    ) -> Result<Tensor, TensorError> {
        let factor = self.vae.config().spatial_factor();
        let size = |side: i64| usize::try_from(side * factor).unwrap_or(0);
        let covering = picture.covering(size(latent[4]), size(latent[3]));
        catch_libtorch_errors(|| self.vae.first_frame_condition(&covering, frames, self.tiling()))
    }

    /// Takes `noise` `[1, z, frames, rows, columns]` f32 through the schedule; `seed` is of the noise that a stochastic
    /// scheduler adds; `before_step(step)` may end it.
    pub(super) fn denoise<E: From<PipelineError>>(
        &self,
        noise: &Tensor,
        conditions: &Conditions,
        scheduler: &mut dyn Scheduler,
        seed: u64,
        before_step: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<Tensor, E> {
        let size = noise.size();
        let rope = self.transformer.rope([size[2], size[3], size[4]]);
        let contexts = catch_libtorch_errors(|| {
            Ok::<_, TensorError>(self.contexts(conditions, size[2] * size[3] * size[4]))
        })
        .map_err(PipelineError::from)?;
        let latents = noise.to_kind(Kind::Float).to_device(self.options.device);
        let mut step_noise = NoiseGenerator::for_steps(seed);
        denoise(scheduler, latents, &mut step_noise, before_step, |latents, timestep| {
            let input = match &conditions.channels {
                Some(channels) => Tensor::cat(&[latents, channels], 1),
                None => latents.shallow_clone(),
            };
            contexts.predict(conditions.guidance, |context| {
                self.transformer.forward(&input, timestep, context, &rope).to_kind(Kind::Float)
            })
        })
    }

    /// Decodes the transformer's (normalised) latents; see [`WanVae::decode_frames`].
    pub(super) fn decode<E: From<PipelineError>>(
        &self,
        latents: &Tensor,
        mut on_frame: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        catch_libtorch_errors(|| {
            let latents = self.vae.denormalize(&latents.to_device(self.options.device));
            self.vae.decode_frames(&latents, self.tiling(), |frame| {
                on_frame(frame).map_err(CallbackError::Caller)
            })
        })
        .map_err(CallbackError::into_caller)
    }

    fn tiling(&self) -> Option<Tiling> {
        self.options.tiled_vae.then(Tiling::default)
    }

    fn contexts(&self, conditions: &Conditions, latent_positions: i64) -> GuidedContext<Context> {
        let config = self.transformer.config();
        let tokens = latent_positions / config.patch_elements();
        let token_bytes =
            (config.ffn_dim + 6 * config.width()) * self.options.kind.elt_size_in_bytes() as i64;
        let activation_bytes = tokens.saturating_mul(token_bytes);
        GuidedContext::new(&conditions.prompt, conditions.negative.as_ref(), activation_bytes, |prompts| {
            self.transformer.context(prompts, conditions.image.as_ref())
        })
    }
}
