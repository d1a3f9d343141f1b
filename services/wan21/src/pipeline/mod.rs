//! From a prompt (and a first frame) to frames: encode, denoise, decode, as diffusers' `WanPipeline` and
//! `WanImageToVideoPipeline` do it. One frame is a picture.

mod encoders;
mod error;
mod generator;
mod noise;
mod request;
mod scratch;

use std::path::{Path, PathBuf};

use serde::Deserialize;
use videosdgx_tensor::{
    Checkpoint, CheckpointError, Device, Kind, Quantization, Tensor, TensorError, catch_libtorch_errors,
    read_json, release_memory,
};
use videosdgx_video::schedulers::SchedulerConfig;
use videosdgx_video::text::EncodedPrompt;
use videosdgx_video::vae::{Tiling, VaeConfig};

use crate::transformer::TransformerConfig;
use encoders::Encoders;
use error::Either;
use generator::Generator;
use scratch::LatentFile;

pub use error::PipelineError;
pub use generator::Conditions;
pub use noise::normal;
pub use request::{Generation, Sampler};

/// How a pipeline is loaded.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Where it runs.
    pub device: Device,
    /// Type that encoders and transformer compute in.
    pub kind: Kind,
    /// Type that the VAE computes in.
    pub vae_kind: Kind,
    /// How the linears of the transformer's blocks are held.
    pub quantization: Quantization,
    /// How the linears of the text encoder are held.
    pub text_quantization: Quantization,
    /// What is in memory at the same time.
    pub residency: Residency,
    /// Tiles for the VAE; whole pictures when absent.
    pub tiling: Option<Tiling>,
}

impl Options {
    /// Everything in `kind` on `device`, all in memory.
    pub fn new(device: Device, kind: Kind) -> Self {
        Self {
            device,
            kind,
            vae_kind: kind,
            quantization: Quantization::None,
            text_quantization: Quantization::None,
            residency: Residency::Whole,
            tiling: None,
        }
    }
}

/// What is in memory at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Residency {
    /// Everything stays from load to unload.
    Whole,
    /// Encoders or transformer and VAE, never both: the others are freed, and loaded again for the next prompt that is
    /// not in the cache.
    Staged,
}

/// How far a generation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Prompt and picture are about to be encoded.
    Encoding,
    /// `done` of `steps` denoising steps are done.
    Denoising {
        /// Steps done.
        done: u32,
        /// Steps in all.
        steps: u32,
    },
    /// `done` of `frames` frames are decoded.
    Decoding {
        /// Frames handed out.
        done: u32,
        /// Frames in all.
        frames: u32,
    },
}

/// What was noticed on the way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Words of the prompts that the vocabulary does not hold.
    pub unknown_words: Vec<String>,
    /// Whether a prompt was longer than 512 tokens and lost its end.
    pub truncated: bool,
    /// Whether denoising was skipped, its result being on the disk.
    pub resumed: bool,
}

/// A loaded Wan 2.1 checkpoint.
pub struct WanPipeline {
    folder: PathBuf,
    options: Options,
    transformer_config: TransformerConfig,
    vae_config: VaeConfig,
    scheduler: SchedulerConfig,
    encoders: Encoders,
    generator: Option<Generator>,
}

#[derive(Deserialize)]
struct ModelIndex {
    #[serde(default)]
    boundary_ratio: Option<f64>,
    #[serde(default)]
    expand_timesteps: bool,
}

impl WanPipeline {
    /// Loads a checkpoint folder in diffusers' layout. With [`Residency::Staged`] only the encoders are loaded yet, and
    /// the other files checked.
    ///
    /// # Errors
    /// [`PipelineError::Tensor`] naming what is missing, broken or not supported, or out of memory.
    pub fn load(folder: &Path, options: Options) -> Result<Self, PipelineError> {
        let index_path = folder.join("model_index.json");
        let index: ModelIndex = read_json(&index_path)?;
        if index.boundary_ratio.is_some() || index.expand_timesteps {
            return Err(CheckpointError::invalid(index_path, "is of Wan 2.2; Wan 2.1 is supported").into());
        }
        let transformer_config: TransformerConfig = read_json(&folder.join("transformer/config.json"))?;
        let checked = transformer_config.check();
        checked.map_err(|reason| CheckpointError::invalid(folder.join("transformer/config.json"), reason))?;
        let vae_config: VaeConfig = read_json(&folder.join("vae/config.json"))?;
        vae_config
            .check()
            .map_err(|reason| CheckpointError::invalid(folder.join("vae/config.json"), reason))?;
        let scheduler = SchedulerConfig::read(folder)?;
        for part in ["transformer", "vae"] {
            Checkpoint::open(folder.join(part))?;
        }
        let mut pipeline = Self {
            folder: folder.to_owned(),
            options,
            encoders: Encoders::new(folder, options),
            generator: None,
            transformer_config,
            vae_config,
            scheduler,
        };
        pipeline.encoders.load(pipeline.looks_at_image())?;
        if options.residency == Residency::Whole {
            pipeline.generator()?;
        }
        Ok(pipeline)
    }

    /// Whether it makes a video from a first frame.
    pub fn takes_image(&self) -> bool {
        self.transformer_config.in_channels != self.transformer_config.outputs()
    }

    /// Bytes of all weights in memory now.
    pub fn resident_bytes(&self) -> u64 {
        self.encoders.resident_bytes()
            + self.generator.as_ref().map_or(0, |g| g.transformer.resident_bytes() + g.vae.resident_bytes())
    }

    /// Bytes of the transformer's weights in memory now.
    pub fn transformer_bytes(&self) -> u64 {
        self.generator.as_ref().map_or(0, |generator| generator.transformer.resident_bytes())
    }

    /// `[1, z, frames, rows, columns]` of a request's latents.
    pub fn latent_shape(&self, generation: &Generation) -> [i64; 5] {
        let factor = self.vae_config.spatial_factor();
        let frames = self.vae_config.latent_frames(i64::from(generation.frames));
        let (rows, columns) = (i64::from(generation.height) / factor, i64::from(generation.width) / factor);
        [1, self.vae_config.z_dim, frames, rows, columns]
    }

    /// Makes a video: `on_progress` hears how far it is (before each step) and may end it, `on_frame` gets each frame
    /// as `width · height · 3` bytes RGB. With `scratch` the latents are kept there before they are decoded, and taken
    /// from there when an earlier attempt got that far.
    ///
    /// # Errors
    /// [`PipelineError`], or what a callback returned.
    pub fn generate<E: From<PipelineError>>(
        &mut self,
        generation: &Generation,
        scratch: Option<&Path>,
        mut on_progress: impl FnMut(Progress) -> Result<(), E>,
        on_frame: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<Summary, E> {
        self.check(generation)?;
        on_progress(Progress::Encoding)?;
        let shape = self.latent_shape(generation);
        let file = scratch.map(|folder| LatentFile::new(folder, generation.fingerprint()));
        let kept = file.as_ref().map(|file| file.read(&shape)).transpose()?.flatten();
        let mut summary = Summary { resumed: kept.is_some(), ..Summary::default() };
        let latents = match kept {
            Some(latents) => latents,
            None => {
                let conditions = self.conditions(generation, &mut summary)?;
                let noise = normal(generation.seed, &shape);
                let latents = self.denoise(&noise, &conditions, generation, &mut on_progress)?;
                if let Some(file) = &file {
                    file.write(&latents)?;
                }
                latents
            }
        };
        self.decode(&latents, on_progress, on_frame)?;
        Ok(summary)
    }

    /// Says what in a request this model cannot do.
    ///
    /// # Errors
    /// [`PipelineError::Input`] naming the field.
    pub fn check(&self, generation: &Generation) -> Result<(), PipelineError> {
        let [_, rows, columns] = self.transformer_config.patch_size;
        generation.check(self.vae_config.spatial_factor() * rows.max(columns), self.takes_image())?;
        let shape = self.latent_shape(generation);
        let [_, patch_rows, patch_columns] = self.transformer_config.patch_size;
        let sides = [
            ("num_frames", shape[2]),
            ("height", shape[3] / patch_rows),
            ("width", shape[4] / patch_columns),
        ];
        match sides.iter().find(|(_, patches)| *patches > self.transformer_config.rope_max_seq_len) {
            Some((field, _)) => {
                Err(PipelineError::Input { field, reason: "is too large for this model".to_owned() })
            }
            None => Ok(()),
        }
    }

    /// Encodes the prompts and the first frame; notices go to `summary`.
    ///
    /// # Errors
    /// [`PipelineError`].
    pub fn conditions(
        &mut self,
        generation: &Generation,
        summary: &mut Summary,
    ) -> Result<Conditions, PipelineError> {
        let prompts: &[&str] = match generation.is_guided() {
            true => &[&generation.prompt, &generation.negative_prompt],
            false => &[&generation.prompt],
        };
        let staged = self.options.residency == Residency::Staged;
        if staged && (self.looks_at_image() || !self.encoders.has(prompts)) && self.generator.take().is_some()
        {
            release_memory();
        }
        let mut embeddings = Vec::new();
        for prompt in prompts {
            let EncodedPrompt { embedding, unknown_words, truncated } = self.encoders.prompt(prompt)?;
            let new = unknown_words.into_iter().filter(|word| !summary.unknown_words.contains(word));
            let new: Vec<String> = new.collect();
            summary.unknown_words.extend(new);
            summary.truncated |= truncated;
            embeddings.push(embedding);
        }
        let image = match &generation.first_frame {
            Some(picture) if self.looks_at_image() => Some(self.encoders.picture(picture)?),
            _ => None,
        };
        if staged {
            self.encoders.free();
        }
        let shape = self.latent_shape(generation);
        let channels = match &generation.first_frame {
            Some(picture) => {
                Some(self.generator()?.first_frame(picture, &shape, i64::from(generation.frames))?)
            }
            None => None,
        };
        let mut embeddings = embeddings.into_iter();
        let prompt = embeddings.next().ok_or_else(|| TensorError::Libtorch("no prompt".to_owned()))?;
        Ok(Conditions { prompt, negative: embeddings.next(), image, channels, guidance: generation.guidance })
    }

    /// Takes `noise` (of [`WanPipeline::latent_shape`], f32) through the request's schedule → latents, f32.
    ///
    /// # Errors
    /// [`PipelineError`], or what `on_progress` returned.
    pub fn denoise<E: From<PipelineError>>(
        &mut self,
        noise: &Tensor,
        conditions: &Conditions,
        generation: &Generation,
        mut on_progress: impl FnMut(Progress) -> Result<(), E>,
    ) -> Result<Tensor, E> {
        let steps = generation.steps;
        let mut scheduler = generation.scheduler(&self.scheduler).start(steps as usize);
        let generator = self.generator().map_err(PipelineError::from)?;
        let latents = generator.denoise(noise, conditions, scheduler.as_mut(), |step| {
            on_progress(Progress::Denoising { done: step as u32, steps })
        })?;
        on_progress(Progress::Denoising { done: steps, steps })?;
        Ok(latents)
    }

    /// Decodes latents and hands out each frame as RGB bytes.
    ///
    /// # Errors
    /// [`PipelineError`], or what a callback returned.
    pub fn decode<E: From<PipelineError>>(
        &mut self,
        latents: &Tensor,
        mut on_progress: impl FnMut(Progress) -> Result<(), E>,
        mut on_frame: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let tiling = self.options.tiling;
        let frames =
            u32::try_from(self.vae_config.frames(latents.size().get(2).copied().unwrap_or(0))).unwrap_or(0);
        let generator = self.generator().map_err(PipelineError::from)?;
        let mut done = 0;
        on_progress(Progress::Decoding { done, frames })?;
        catch_libtorch_errors(|| {
            let latents = generator.vae.denormalize(&latents.to_device(generator.options.device));
            generator.vae.decode_frames(&latents, tiling, |frame| {
                on_frame(frame).map_err(Either::Caller)?;
                done += 1;
                on_progress(Progress::Decoding { done, frames }).map_err(Either::Caller)
            })
        })
        .map_err(Either::into_caller)
    }

    /// Whether the transformer attends to an embedding of the first frame.
    fn looks_at_image(&self) -> bool {
        self.transformer_config.image_dim.is_some()
    }

    /// Transformer and VAE, loaded if they are not.
    fn generator(&mut self) -> Result<&Generator, TensorError> {
        if self.options.residency == Residency::Staged {
            self.encoders.free();
        }
        match &mut self.generator {
            Some(generator) => Ok(generator),
            empty => {
                let config = self.transformer_config.clone();
                Ok(empty.insert(Generator::load(&self.folder, config, self.options)?))
            }
        }
    }
}
