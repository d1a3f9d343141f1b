//! Transformer and VAE: from noise to latents to pictures.

use std::path::Path;
use std::sync::Arc;

use videosdgx_tensor::{
    Checkpoint, CheckpointError, Kind, Tensor, TensorError, Weights, catch_libtorch_errors,
};
use videosdgx_video::picture::{Picture, to_tensor};
use videosdgx_video::schedulers::Scheduler;
use videosdgx_video::vae::{VaeParts, WanVae};

use super::request::TEMPORAL_FACTOR;
use super::{Options, PipelineError};
use crate::transformer::{Context, TransformerConfig, WanTransformer};

/// Most bytes of one prompt's activations for which both prompts are computed together; beyond, a second prompt at the
/// same time gives no speed for the memory it takes.
const TOGETHER_BYTES: i64 = 512 << 20;

pub(super) struct Generator {
    pub(super) transformer: WanTransformer,
    pub(super) vae: WanVae,
    pub(super) options: Options,
}

/// What a video is denoised towards.
pub struct Conditions {
    /// `[tokens, text_dim]`.
    pub prompt: Tensor,
    /// `[tokens, text_dim]`, with guidance.
    pub negative: Option<Tensor>,
    /// `[1, tokens, image_dim]`, of models that look at an image.
    pub image: Option<Tensor>,
    /// `[1, channels, frames, rows, columns]` f32, beside the latents into the transformer: image to video.
    pub channels: Option<Tensor>,
    /// Classifier-free guidance.
    pub guidance: f64,
}

/// Keys and values of the prompts: together, or one context each.
enum Contexts {
    Together(Context),
    Apart { prompt: Context, negative: Context },
    Unguided(Context),
}

impl Generator {
    pub(super) fn load(
        folder: &Path,
        config: TransformerConfig,
        options: Options,
    ) -> Result<Self, TensorError> {
        let files = Arc::new(Checkpoint::open(folder.join("transformer"))?);
        let weights = Weights::new(files, options.device, options.kind, options.quantization);
        let transformer = WanTransformer::load(&weights, config)?;
        let unused = weights.unused();
        if !unused.is_empty() {
            tracing::warn!(
                count = unused.len(),
                first = unused[0],
                "tensors of the transformer that nothing uses"
            );
        }
        let config = transformer.config();
        let parts = if config.in_channels == config.outputs() { VaeParts::Decoder } else { VaeParts::Both };
        let vae = WanVae::load(&folder.join("vae"), parts, options.device, options.vae_kind)?;
        let expected = match parts {
            VaeParts::Decoder => vae.config().z_dim,
            VaeParts::Both => 2 * vae.config().z_dim + TEMPORAL_FACTOR,
        };
        if config.in_channels != expected || config.outputs() != vae.config().z_dim {
            let (inputs, latents) = (config.in_channels, vae.config().z_dim);
            let reason =
                format!("in_channels {inputs} does not fit the {latents} latent channels of the VAE");
            return Err(CheckpointError::invalid(folder.join("transformer/config.json"), reason).into());
        }
        Ok(Self { transformer, vae, options })
    }

    /// Mask and condition of a first frame, `[1, 4 + z, frames, rows, columns]` f32: the mask is one at the frames that
    /// are given, four to a latent frame, and the condition the encoded picture followed by gray.
    pub(super) fn first_frame(
        &self,
        picture: &Picture,
        latent: &[i64],
        frames: i64,
    ) -> Result<Tensor, TensorError> {
        let factor = self.vae.config().spatial_factor();
        let size = |side: i64| usize::try_from(side * factor).unwrap_or(0);
        let covering = picture.covering(size(latent[4]), size(latent[3]));
        catch_libtorch_errors(|| {
            let pixels =
                (to_tensor(&covering) / 255.0 * 2.0 - 1.0).unsqueeze(0).to_device(self.options.device);
            let encoded = self.vae.encode_first_frame(&pixels, frames, self.options.tiling)?;
            let condition = self.vae.normalize(&encoded);
            let options = (Kind::Float, self.options.device);
            let mask = Tensor::zeros([1, TEMPORAL_FACTOR, latent[2], latent[3], latent[4]], options);
            let _ = mask.narrow(2, 0, 1).fill_(1.0);
            Ok(Tensor::cat(&[mask, condition], 1))
        })
    }

    /// Takes `noise` `[1, z, frames, rows, columns]` f32 through the schedule; `before_step(step)` may end it.
    pub(super) fn denoise<E: From<PipelineError>>(
        &self,
        noise: &Tensor,
        conditions: &Conditions,
        scheduler: &mut dyn Scheduler,
        mut before_step: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<Tensor, E> {
        let ours = |error: TensorError| E::from(PipelineError::from(error));
        let size = noise.size();
        let rope = self.transformer.rope([size[2], size[3], size[4]]);
        let contexts = catch_libtorch_errors(|| Ok(self.contexts(conditions, size[2] * size[3] * size[4])))
            .map_err(ours)?;
        let mut latents = noise.to_kind(Kind::Float).to_device(self.options.device);
        for (step, timestep) in scheduler.timesteps().to_vec().into_iter().enumerate() {
            before_step(step)?;
            latents = catch_libtorch_errors(|| {
                let input = match &conditions.channels {
                    Some(channels) => Tensor::cat(&[&latents, channels], 1),
                    None => latents.shallow_clone(),
                };
                let predict =
                    |context| self.transformer.forward(&input, timestep, context, &rope).to_kind(Kind::Float);
                let flow = match &contexts {
                    Contexts::Unguided(context) => predict(context),
                    Contexts::Together(context) => {
                        let both = predict(context);
                        guided(&both.narrow(0, 0, 1), &both.narrow(0, 1, 1), conditions.guidance)
                    }
                    Contexts::Apart { prompt, negative } => {
                        guided(&predict(prompt), &predict(negative), conditions.guidance)
                    }
                };
                Ok(scheduler.step(&flow, &latents))
            })
            .map_err(ours)?;
        }
        Ok(latents)
    }

    fn contexts(&self, conditions: &Conditions, latent_positions: i64) -> Contexts {
        let image = conditions.image.as_ref();
        let Some(negative) = &conditions.negative else {
            return Contexts::Unguided(self.transformer.context(&[&conditions.prompt], image));
        };
        let config = self.transformer.config();
        let tokens = latent_positions / config.patch_elements();
        let token_bytes =
            (config.ffn_dim + 6 * config.width()) * self.options.kind.elt_size_in_bytes() as i64;
        if tokens.saturating_mul(token_bytes) <= TOGETHER_BYTES {
            return Contexts::Together(self.transformer.context(&[&conditions.prompt, negative], image));
        }
        Contexts::Apart {
            prompt: self.transformer.context(&[&conditions.prompt], image),
            negative: self.transformer.context(&[negative], image),
        }
    }
}

/// `negative + guidance · (prompt − negative)`.
fn guided(prompt: &Tensor, negative: &Tensor, guidance: f64) -> Tensor {
    negative.lerp(prompt, guidance)
}
