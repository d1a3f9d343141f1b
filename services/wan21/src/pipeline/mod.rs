//! From a prompt (and a first frame) to frames: encode, denoise, decode, as diffusers' `WanPipeline` and
//! `WanImageToVideoPipeline` do it. One frame is a picture.
//!
//! ```no_run
//! use videosdgx_diffusion::{Generation, Pipeline, PipelineError, PipelineOptions, generate};
//! use videosdgx_tensor::{Device, Kind};
//! use wan21::pipeline::WanPipeline;
//!
//! # fn main() -> Result<(), PipelineError> {
//! let options = PipelineOptions::new(Device::Cpu, Kind::Float);
//! let mut pipeline = WanPipeline::load("checkpoints/demo-shapes".as_ref(), options)?;
//! let generation = Generation {
//!     prompt: "a red circle moving right on a black background".to_owned(),
//!     negative_prompt: String::new(),
//!     first_frame: None,
//!     width: 64,
//!     height: 64,
//!     frames: 17,
//!     steps: 20,
//!     guidance: 4.0,
//!     seed: 1,
//!     ..Generation::default()
//! };
//! generate(&mut pipeline, &generation, None, |_progress| Ok(()), |_rgb| Ok::<_, PipelineError>(()))?;
//! # Ok(()) }
//! ```

mod configuration;
mod encoders;
mod generator;

use std::path::{Path, PathBuf};

use videosdgx_diffusion::{
    Component, Generation, LatentShape, Latents, Pipeline, PipelineError, PipelineOptions, Progress,
    Residency, Summary, normal,
};
use videosdgx_sound::Sound;
use videosdgx_tensor::{AdaptableLayers, Tensor, TensorError, release_memory};
use videosdgx_video::text::EncodedPrompt;

use configuration::WanConfiguration;
use encoders::Encoders;
use generator::Generator;

pub use generator::Conditions;

/// Name of the only latent tensor in stored latents.
const LATENTS: &str = "latents";

/// A loaded Wan 2.1 checkpoint.
pub struct WanPipeline {
    folder: PathBuf,
    options: PipelineOptions,
    configuration: WanConfiguration,
    encoders: Encoders,
    generator: Component<Generator>,
}

impl WanPipeline {
    /// Whether it makes a video from a first frame.
    pub fn takes_image(&self) -> bool {
        self.configuration.transformer.takes_image()
    }

    /// `[1, z, frames, rows, columns]` of a request's latents.
    pub fn latent_shape(&self, generation: &Generation) -> [i64; 5] {
        self.configuration.latent_shape(generation)
    }

    /// Takes `noise` (of [`WanPipeline::latent_shape`], f32) through the request's schedule → latents, f32.
    ///
    /// # Errors
    /// [`PipelineError`], or what `on_progress` returned.
    pub fn denoise_from<E: From<PipelineError>>(
        &mut self,
        noise: &Tensor,
        conditions: &Conditions,
        generation: &Generation,
        mut on_progress: impl FnMut(Progress) -> Result<(), E>,
    ) -> Result<Tensor, E> {
        let steps = generation.steps;
        let mut scheduler = generation.scheduler(&self.configuration.scheduler).start(steps as usize);
        let generator = self.generator().map_err(PipelineError::from)?;
        let latents = generator.denoise(noise, conditions, scheduler.as_mut(), generation.seed, |step| {
            on_progress(Progress::Denoising { done: step as u32, steps })
        })?;
        on_progress(Progress::Denoising { done: steps, steps })?;
        Ok(latents)
    }

    /// Decodes latents `[1, z, frames, rows, columns]` and passes each frame to `on_frame` as RGB bytes.
    ///
    /// # Errors
    /// [`PipelineError`], or what a callback returned.
    pub fn decode_latents<E: From<PipelineError>>(
        &mut self,
        latents: &Tensor,
        mut on_progress: impl FnMut(Progress) -> Result<(), E>,
        mut on_frame: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let latent_frames = latents.size().get(2).copied().unwrap_or(0);
        let frames = u32::try_from(self.configuration.vae.frames(latent_frames)).unwrap_or(0);
        let generator = self.generator().map_err(PipelineError::from)?;
        let mut done = 0;
        on_progress(Progress::Decoding { done, frames })?;
        generator.decode(latents, |frame| {
            on_frame(frame)?;
            done += 1;
            on_progress(Progress::Decoding { done, frames })
        })
    }

    /// Frees transformer and VAE when encoders are needed and there is memory for one stage only.
    fn make_room_for_encoders(&mut self, prompts: &[&str]) {
        let needed = self.configuration.attends_to_image() || !self.encoders.are_cached(prompts);
        if self.options.residency == Residency::Staged && needed && self.generator.free() {
            release_memory();
        }
    }

    /// Transformer and VAE, loaded if they are not.
    fn generator(&mut self) -> Result<&Generator, TensorError> {
        if self.options.residency == Residency::Staged {
            self.encoders.free();
        }
        self.generator.get_or_load(|| {
            Generator::load(&self.folder, self.configuration.transformer.clone(), self.options)
        })
    }
}

impl Pipeline for WanPipeline {
    type Conditions = Conditions;

    fn load(folder: &Path, options: PipelineOptions) -> Result<Self, PipelineError> {
        let mut pipeline = Self {
            folder: folder.to_owned(),
            options,
            configuration: WanConfiguration::read(folder)?,
            encoders: Encoders::new(folder, options),
            generator: Component::empty(),
        };
        pipeline.encoders.load(pipeline.configuration.attends_to_image())?;
        if options.residency == Residency::Whole {
            pipeline.generator()?;
        }
        Ok(pipeline)
    }

    fn resident_bytes(&self) -> u64 {
        let generator = self.generator.loaded();
        self.encoders.resident_bytes()
            + generator.map_or(0, |g| g.transformer.resident_bytes() + g.vae.resident_bytes())
    }

    fn transformer_bytes(&self) -> u64 {
        self.generator.loaded().map_or(0, |generator| generator.transformer.resident_bytes())
    }

    fn adaptable_layers(&mut self) -> Result<AdaptableLayers, PipelineError> {
        Ok(self.generator()?.layers.clone())
    }

    fn check(&self, generation: &Generation) -> Result<(), PipelineError> {
        self.configuration.check(generation)
    }

    fn latent_shapes(&self, generation: &Generation) -> Vec<LatentShape> {
        vec![LatentShape { name: LATENTS, shape: self.latent_shape(generation).to_vec() }]
    }

    fn encode(
        &mut self,
        generation: &Generation,
        summary: &mut Summary,
    ) -> Result<Conditions, PipelineError> {
        let prompts: &[&str] = match generation.is_guided() {
            true => &[&generation.prompt, &generation.negative_prompt],
            false => &[&generation.prompt],
        };
        self.make_room_for_encoders(prompts);
        let mut embeddings = Vec::new();
        for prompt in prompts {
            let EncodedPrompt { embedding, unknown_words, truncated } = self.encoders.prompt(prompt)?;
            summary.add_prompt(unknown_words, truncated);
            embeddings.push(embedding);
        }
        let image = match &generation.first_frame {
            Some(picture) if self.configuration.attends_to_image() => Some(self.encoders.picture(picture)?),
            _ => None,
        };
        if self.options.residency == Residency::Staged {
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

    fn denoise<E: From<PipelineError>>(
        &mut self,
        generation: &Generation,
        conditions: &Conditions,
        on_progress: impl FnMut(Progress) -> Result<(), E>,
    ) -> Result<Latents, E> {
        let noise = normal(generation.seed, &self.latent_shape(generation));
        let latents = self.denoise_from(&noise, conditions, generation, on_progress)?;
        Ok(Latents::new(vec![(LATENTS, latents)]))
    }

    fn decode<E: From<PipelineError>>(
        &mut self,
        latents: &Latents,
        on_progress: impl FnMut(Progress) -> Result<(), E>,
        on_frame: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let latents = latents.get(LATENTS).map_err(PipelineError::from)?;
        self.decode_latents(latents, on_progress, on_frame)
    }

    fn decode_sound(&mut self, _latents: &Latents) -> Result<Option<Sound>, PipelineError> {
        Ok(None)
    }
}
