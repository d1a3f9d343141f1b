//! The configuration files of a checkpoint, and the checks and sizes that follow from them.

use std::path::Path;

use serde::de::DeserializeOwned;
use videosdgx_api::{FrameRule, Support};
use videosdgx_diffusion::schedulers::SchedulerConfig;
use videosdgx_diffusion::{Abilities, Generation, PipelineError};
use videosdgx_tensor::{CheckpointError, read_json};
use videosdgx_video::ltx2_audio::{Ltx2AudioVaeConfig, Ltx2VocoderConfig};
use videosdgx_video::ltx2_vae::{Ltx2UpsamplerConfig, Ltx2VaeConfig};

use crate::connectors::ConnectorsConfig;
use crate::pipeline::sampling::Form;
use crate::transformer::TransformerConfig;

/// Most tokens of a prompt; shorter ones are padded to it.
const MAX_PROMPT_TOKENS: u32 = 1024;

/// The configuration of every component.
pub(crate) struct Ltx2Configuration {
    pub(crate) transformer: TransformerConfig,
    pub(crate) connectors: ConnectorsConfig,
    pub(crate) vae: Ltx2VaeConfig,
    pub(crate) audio_vae: Ltx2AudioVaeConfig,
    pub(crate) vocoder: Ltx2VocoderConfig,
    pub(crate) upsampler: Option<Ltx2UpsamplerConfig>,
    pub(crate) scheduler: SchedulerConfig,
}

impl Ltx2Configuration {
    /// Reads and checks the files of a checkpoint folder, without weights.
    pub(crate) fn read(folder: &Path) -> Result<Self, CheckpointError> {
        let upsampler = folder.join("latent_upsampler").is_dir();
        let configuration = Self {
            transformer: component(folder, "transformer", TransformerConfig::check)?,
            connectors: component(folder, "connectors", ConnectorsConfig::check)?,
            vae: component(folder, "vae", Ltx2VaeConfig::check)?,
            audio_vae: component(folder, "audio_vae", Ltx2AudioVaeConfig::check)?,
            vocoder: component(folder, "vocoder", Ltx2VocoderConfig::check)?,
            upsampler: upsampler
                .then(|| component(folder, "latent_upsampler", Ltx2UpsamplerConfig::check))
                .transpose()?,
            scheduler: SchedulerConfig::read(folder)?,
        };
        configuration.check_together().map_err(|(part, reason)| {
            CheckpointError::invalid(folder.join(part).join("config.json"), reason)
        })?;
        Ok(configuration)
    }

    /// Checks that the components fit together; the component at fault and what is wrong.
    fn check_together(&self) -> Result<(), (&'static str, String)> {
        let Self { transformer, vae, audio_vae, vocoder, upsampler, .. } = self;
        let same = |part, what: &str, got: i64, want: i64| {
            if got == want {
                return Ok(());
            }
            Err((part, format!("{what} is {got}, but the transformer's configuration says {want}")))
        };
        same("vae", "latent_channels", vae.latent_channels, transformer.in_channels)?;
        let [frames, rows, columns] = transformer.vae_scale_factors;
        same("vae", "the compression in time", vae.temporal_factor(), frames)?;
        same("vae", "the compression of the height", vae.spatial_factor(), rows)?;
        same("vae", "the compression of the width", vae.spatial_factor(), columns)?;
        let width = audio_vae.packed_width();
        same("audio_vae", "the width of a latent frame", width, transformer.audio_in_channels)?;
        let rate = i64::from(audio_vae.sample_rate);
        same("audio_vae", "sample_rate", rate, transformer.audio_sampling_rate)?;
        same("audio_vae", "mel_hop_length", audio_vae.mel_hop_length, transformer.audio_hop_length)?;
        vocoder.check_with(audio_vae).map_err(|reason| ("vocoder", reason))?;
        if let Some(upsampler) = upsampler {
            same("latent_upsampler", "in_channels", upsampler.in_channels, transformer.in_channels)?;
        }
        Ok(())
    }

    /// How the checkpoint was trained to be sampled.
    pub(crate) fn form(&self, demonstration: bool) -> Form {
        Form::of(&self.scheduler, demonstration)
    }

    /// Which numbers of frames are possible.
    pub(crate) fn frame_rule(&self) -> FrameRule {
        FrameRule { step: u32::try_from(self.vae.temporal_factor()).unwrap_or(1), offset: 1 }
    }

    /// Width and height are multiples of this.
    pub(crate) fn size_step(&self) -> i64 {
        self.vae.spatial_factor().max(32)
    }

    /// Latent frames, rows and columns of a request.
    pub(crate) fn latent_size(&self, generation: &Generation) -> [i64; 3] {
        let factor = self.vae.spatial_factor();
        let frames = self.vae.latent_frames(i64::from(generation.frames));
        [frames, i64::from(generation.height) / factor, i64::from(generation.width) / factor]
    }

    /// Latent frames of a request's sound.
    pub(crate) fn sound_tokens(&self, generation: &Generation) -> i64 {
        self.audio_vae.latent_frames(i64::from(generation.frames), f64::from(generation.fps))
    }

    /// Checks a request.
    pub(crate) fn check(&self, generation: &Generation) -> Result<(), PipelineError> {
        let upscale = self.upsampler.is_some();
        let abilities = Abilities {
            image: Support::Optional,
            last_image: Support::Optional,
            audio: Support::Optional,
            audio_input: Support::Optional,
            upscale: if upscale { Support::Optional } else { Support::Unsupported },
        };
        // The first stage is half as large.
        let step = if generation.upscale { 2 * self.size_step() } else { self.size_step() };
        generation.check(step, self.frame_rule(), &abilities)?;
        let input = |field, reason: &str| Err(PipelineError::Input { field, reason: reason.to_owned() });
        if generation.fps == 0 {
            return input("fps", "must be at least 1");
        }
        let longest = self.transformer.pos_embed_max_pos * i64::from(generation.fps);
        if i64::from(generation.frames) > longest + 1 {
            return input("num_frames", "is longer than this model's positions reach");
        }
        if self.sound_tokens(generation) == 0 {
            return input("num_frames", "is too short at this frame rate for any sound");
        }
        Ok(())
    }
}

fn component<T: DeserializeOwned>(
    folder: &Path,
    part: &str,
    check: impl Fn(&T) -> Result<(), String>,
) -> Result<T, CheckpointError> {
    let path = folder.join(part).join("config.json");
    let config = read_json(&path)?;
    check(&config).map_err(|reason| CheckpointError::invalid(path, reason))?;
    Ok(config)
}

/// Most tokens of a prompt of a checkpoint: what its demonstration was trained with, else 1,024.
pub(crate) fn prompt_tokens(demonstration: Option<u32>) -> u32 {
    demonstration.unwrap_or(MAX_PROMPT_TOKENS)
}
