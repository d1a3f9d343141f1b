//! From a prompt (and pictures and sound) to frames and a waveform: encode, denoise, decode, as diffusers' `LTX2Pipeline`,
//! `LTX2ConditionPipeline` and `LTX2LatentUpsamplePipeline` do it.

mod components;
mod denoiser;
mod encoders;
mod guidance;
pub mod sampling;
mod tokens;

use std::path::{Path, PathBuf};

use videosdgx_diffusion::schedulers::SchedulerConfig;
use videosdgx_diffusion::{
    CallbackError, Component, Demonstration, Generation, LatentShape, Latents, NoiseGenerator, Pipeline,
    PipelineError, PipelineOptions, Progress, Residency, Summary,
};
use videosdgx_picture::Picture;
use videosdgx_sound::Sound as SoundTrack;
use videosdgx_tensor::{
    AdaptableLayers, Device, Kind, Tensor, TensorError, catch_libtorch_errors, release_memory,
};

use components::Generator;
use denoiser::{Denoiser, Prompts, Schedulers, Sound, noised};
use encoders::Encoders;
pub use guidance::GuidanceScales;
use sampling::{Form, Guidance, SECOND_STAGE_SIGMAS};
use tokens::{GivenPictures, VideoTokens, pack};

use crate::configuration::{Ltx2Configuration, prompt_tokens};
use crate::connectors::PromptTokens;
use crate::transformer::Prompt;

/// Names of the tensors of stored latents: of the picture `[1, z, frames, rows, columns]` and of the sound
/// `[1, tokens, channels]`, both normalised.
const VIDEO: &str = "video";
const SOUND: &str = "sound";

/// A loaded LTX-2 checkpoint.
pub struct Ltx2Pipeline {
    folder: PathBuf,
    options: PipelineOptions,
    configuration: Ltx2Configuration,
    form: Form,
    encoders: Encoders,
    generator: Component<Generator>,
}

/// The conditioning of a generation.
pub struct Conditions {
    prompt: PromptTokens,
    negative: Option<PromptTokens>,
    /// Given pictures at the size of each stage.
    pictures: Vec<GivenPictures>,
    /// Given sound as tokens `[1, tokens, channels]` f32, normalised.
    sound: Option<Tensor>,
}

/// Noise that one denoising loop starts from, f32 on the CPU.
pub struct Noise {
    /// `[1, tokens, z]`.
    pub video: Tensor,
    /// `[1, tokens, channels]`.
    pub sound: Tensor,
}

/// One denoising loop: its size, noise levels and guidance, and the latents that it begins with.
struct Loop<'a> {
    size: [i64; 3],
    sigmas: Vec<f64>,
    guidance: Guidance,
    scheduler: &'a SchedulerConfig,
    pictures: &'a GivenPictures,
    /// Tokens of picture and sound, normalised.
    begin: Option<(&'a Tensor, &'a Tensor)>,
}

impl Ltx2Pipeline {
    /// Shapes of the noise of a request's first loop.
    pub fn noise_shapes(&self, generation: &Generation) -> [Vec<i64>; 2] {
        self.shapes_of(self.first_size(generation), generation)
    }

    /// Shapes of the noise of a request's second loop.
    pub fn refining_noise_shapes(&self, generation: &Generation) -> [Vec<i64>; 2] {
        self.shapes_of(self.configuration.latent_size(generation), generation)
    }

    fn shapes_of(&self, [frames, rows, columns]: [i64; 3], generation: &Generation) -> [Vec<i64>; 2] {
        let config = &self.configuration.transformer;
        let sound = self.configuration.sound_tokens(generation);
        [vec![1, frames * rows * columns, config.in_channels], vec![1, sound, config.audio_in_channels]]
    }

    /// The size of the first loop: half of the request's if it is enlarged afterwards.
    fn first_size(&self, generation: &Generation) -> [i64; 3] {
        let [frames, rows, columns] = self.configuration.latent_size(generation);
        match generation.upscale {
            true => [frames, rows / 2, columns / 2],
            false => [frames, rows, columns],
        }
    }

    /// Takes `noise` (of [`Ltx2Pipeline::noise_shapes`]) through the schedule of the first loop → latents of the picture
    /// `[1, z, frames, rows, columns]` and tokens of the sound, f32, normalised.
    ///
    /// # Errors
    /// [`PipelineError`], or what `on_progress` returned.
    pub fn denoise_from<E: From<PipelineError>>(
        &mut self,
        noise: &Noise,
        conditions: &Conditions,
        generation: &Generation,
        on_progress: impl FnMut(Progress) -> Result<(), E>,
    ) -> Result<(Tensor, Tensor), E> {
        let scheduler = generation.scheduler(&self.configuration.scheduler);
        let first = Loop {
            size: self.first_size(generation),
            sigmas: self.form.sigmas(generation.steps),
            guidance: self.guidance(generation),
            scheduler: &scheduler,
            pictures: conditions.pictures.first().unwrap_or(&GivenPictures::NONE),
            begin: None,
        };
        self.run(&first, noise, conditions, generation, on_progress)
    }

    /// Enlarges latents of the picture to twice the height and width, normalised before and after.
    ///
    /// # Errors
    /// [`PipelineError`].
    pub fn enlarge(&mut self, latents: &Tensor) -> Result<Tensor, PipelineError> {
        let generator = self.generator()?;
        let upsampler = generator.upsampler.as_ref().ok_or_else(no_upsampler)?;
        let enlarged = catch_libtorch_errors(|| {
            Ok::<_, TensorError>(
                generator.vae.normalize(&upsampler.forward(&generator.vae.denormalize(latents))?),
            )
        })?;
        Ok(enlarged)
    }

    /// The second loop: `noise` over enlarged latents of the picture and the tokens of the sound.
    ///
    /// # Errors
    /// [`PipelineError`], or what `on_progress` returned.
    pub fn refine_from<E: From<PipelineError>>(
        &mut self,
        noise: &Noise,
        (picture, sound): (&Tensor, &Tensor),
        conditions: &Conditions,
        generation: &Generation,
        on_progress: impl FnMut(Progress) -> Result<(), E>,
    ) -> Result<(Tensor, Tensor), E> {
        let scheduler = generation.scheduler(&self.configuration.scheduler).with_constant_shift(1.0);
        let guidance = match self.form {
            Form::Distilled => Guidance::text(1.0),
            Form::Full | Form::Demonstration => self.guidance(generation),
        };
        let second = Loop {
            size: self.configuration.latent_size(generation),
            sigmas: SECOND_STAGE_SIGMAS.to_vec(),
            guidance,
            scheduler: &scheduler,
            pictures: conditions.pictures.last().unwrap_or(&GivenPictures::NONE),
            begin: Some((&pack(picture), sound)),
        };
        self.run(&second, noise, conditions, generation, on_progress)
    }

    fn run<E: From<PipelineError>>(
        &mut self,
        plan: &Loop<'_>,
        noise: &Noise,
        conditions: &Conditions,
        generation: &Generation,
        mut on_progress: impl FnMut(Progress) -> Result<(), E>,
    ) -> Result<(Tensor, Tensor), E> {
        let device = self.options.device;
        let generator = self.generator().map_err(PipelineError::from)?;
        let transformer = &generator.transformer;
        let config = transformer.config();
        let level = plan.sigmas.first().copied().unwrap_or(1.0);
        let fps = f64::from(generation.fps);
        let prepared = catch_libtorch_errors(|| {
            let on_device = |tensor: &Tensor| tensor.to_kind(Kind::Float).to_device(device);
            let video_noise = on_device(&noise.video);
            let begin = plan.begin.map(|(video, _)| on_device(video));
            let tokens = VideoTokens::new(
                config,
                plan.size,
                fps,
                (&video_noise, level),
                begin.as_ref(),
                plan.pictures,
            );
            let sound = match (&conditions.sound, plan.begin) {
                (Some(given), _) => Sound::Given(on_device(given)),
                (None, Some((_, begin))) => {
                    Sound::Noise(noised(&on_device(begin), &on_device(&noise.sound), level))
                }
                (None, None) => Sound::Noise(on_device(&noise.sound) * level),
            };
            let audio = config.audio_coordinates(noise.sound.size()[1]);
            let positions =
                transformer.positions(&tokens.coordinates, Some(&audio), Some(&tokens.single_pictures()));
            let prompts = Prompts {
                prompt: prompt_of(&conditions.prompt),
                negative: conditions.negative.as_ref().map(prompt_of),
            };
            let denoiser = Denoiser::new(transformer, &prompts, positions, plan.guidance, tokens.count());
            Ok::<_, TensorError>((tokens, sound, denoiser))
        });
        let (tokens, sound, denoiser) = prepared.map_err(PipelineError::from)?;
        let mut schedulers =
            schedulers(plan, tokens.count(), generation.seed).map_err(PipelineError::from)?;
        let steps = plan.sigmas.len() as u32;
        let (video, audio) = denoiser.run(&tokens, &sound, &mut schedulers, |step| {
            on_progress(Progress::Denoising { done: step as u32, steps })
        })?;
        on_progress(Progress::Denoising { done: steps, steps })?;
        Ok((tokens.latents(&video), audio))
    }

    /// The guidances of a request.
    fn guidance(&self, generation: &Generation) -> Guidance {
        let base = match self.form {
            Form::Full => Guidance::recommended(generation.guidance, &self.configuration.transformer),
            Form::Distilled | Form::Demonstration => Guidance::text(generation.guidance),
        };
        base.with(&generation.guidances)
    }

    /// Decodes normalised latents of the picture and passes each frame to `on_frame` as RGB bytes.
    ///
    /// # Errors
    /// [`PipelineError`], or what a callback returned.
    pub fn decode_picture<E: From<PipelineError>>(
        &mut self,
        latents: &Tensor,
        mut on_progress: impl FnMut(Progress) -> Result<(), E>,
        mut on_frame: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let latent_frames = latents.size().get(2).copied().unwrap_or(0);
        let frames = u32::try_from(self.configuration.vae.frames(latent_frames)).unwrap_or(0);
        let device = self.options.device;
        let generator = self.generator().map_err(PipelineError::from)?;
        let mut done = 0;
        on_progress(Progress::Decoding { done, frames })?;
        catch_libtorch_errors(|| {
            let latents = generator.vae.denormalize(&latents.to_device(device));
            generator.vae.decode_frames(&latents, generator.tiling(), |frame| {
                done += 1;
                let kept = on_frame(frame).and_then(|()| on_progress(Progress::Decoding { done, frames }));
                kept.map_err(CallbackError::Caller)
            })
        })
        .map_err(CallbackError::into_caller)
    }

    /// Latents of the picture and sound as diffusers' pipelines return them, not normalised.
    ///
    /// # Errors
    /// [`PipelineError`].
    pub fn denormalized(
        &mut self,
        video: &Tensor,
        sound: &Tensor,
    ) -> Result<(Tensor, Tensor), PipelineError> {
        let Generator { vae, audio_vae, .. } = self.generator()?;
        let denormalized = catch_libtorch_errors(|| {
            let sound = audio_vae.unpack(&audio_vae.denormalize(sound));
            Ok::<_, TensorError>((vae.denormalize(video), sound))
        })?;
        Ok(denormalized)
    }

    /// The waveform `[channels, samples]` f32 of a sound's normalised tokens, and its sampling rate.
    ///
    /// # Errors
    /// [`PipelineError`].
    pub fn decode_waveform(&mut self, tokens: &Tensor) -> Result<(Tensor, u32), PipelineError> {
        let device = self.options.device;
        let generator = self.generator()?;
        let Generator { audio_vae, vocoder, .. } = generator;
        let waveform = catch_libtorch_errors(|| {
            let latents = audio_vae.unpack(&audio_vae.denormalize(&tokens.to_device(device)));
            vocoder.synthesize(&audio_vae.decode(&latents)?)
        })?;
        Ok((waveform, vocoder.sample_rate()))
    }

    /// Transformer, autoencoders and vocoder, loaded if they are not.
    fn generator(&mut self) -> Result<&Generator, TensorError> {
        if self.options.residency == Residency::Staged {
            self.encoders.free();
        }
        let Self { folder, configuration, options, generator, .. } = self;
        generator.get_or_load(|| Generator::load(folder, configuration, *options))
    }

    /// Frees the generator when encoders are needed and there is memory for one stage only.
    fn make_room_for_encoders(&mut self, prompts: &[&str]) {
        let staged = self.options.residency == Residency::Staged;
        if staged && !self.encoders.are_ready(prompts) && self.generator.free() {
            release_memory();
        }
    }
}

fn prompt_of(tokens: &PromptTokens) -> Prompt<'_> {
    Prompt { video: &tokens.video, audio: Some(&tokens.audio), mask: None }
}

fn no_upsampler() -> PipelineError {
    let reason = "this checkpoint has no latent_upsampler, which enlarging needs".to_owned();
    PipelineError::Input { field: "upscale", reason }
}

fn schedulers(plan: &Loop<'_>, tokens: i64, seed: u64) -> Result<Schedulers, TensorError> {
    let start = || {
        plan.scheduler
            .start_from(&plan.sigmas, tokens)
            .ok_or_else(|| TensorError::Libtorch("UniPC has no schedule of given noise levels".to_owned()))
    };
    Ok(Schedulers { video: start()?, audio: start()?, noise: NoiseGenerator::for_steps(seed) })
}

impl Pipeline for Ltx2Pipeline {
    type Conditions = Conditions;

    fn load(folder: &Path, options: PipelineOptions) -> Result<Self, PipelineError> {
        let configuration = Ltx2Configuration::read(folder)?;
        let demonstration = Demonstration::read(folder)?;
        let length = prompt_tokens(demonstration.as_ref().and_then(|demo| demo.defaults.max_prompt_tokens));
        let mut pipeline = Self {
            folder: folder.to_owned(),
            options,
            form: configuration.form(demonstration.is_some()),
            encoders: Encoders::new(folder, options, configuration.connectors.clone(), length),
            configuration,
            generator: Component::empty(),
        };
        pipeline.encoders.load()?;
        if options.residency == Residency::Whole {
            pipeline.generator()?;
        }
        Ok(pipeline)
    }

    fn resident_bytes(&self) -> u64 {
        self.encoders.resident_bytes() + self.generator.loaded().map_or(0, Generator::resident_bytes)
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
        let [frames, rows, columns] = self.configuration.latent_size(generation);
        let [_, sound] = self.shapes_of([frames, rows, columns], generation);
        let channels = self.configuration.transformer.in_channels;
        vec![
            LatentShape { name: VIDEO, shape: vec![1, channels, frames, rows, columns] },
            LatentShape { name: SOUND, shape: sound },
        ]
    }

    fn encode(
        &mut self,
        generation: &Generation,
        summary: &mut Summary,
    ) -> Result<Conditions, PipelineError> {
        let negative = self.guidance(generation).uses_negative_prompt();
        let prompts: &[&str] = match negative {
            true => &[&generation.prompt, &generation.negative_prompt],
            false => &[&generation.prompt],
        };
        self.make_room_for_encoders(prompts);
        let prompt = self.encoders.prompt(&generation.prompt, summary)?;
        let negative =
            negative.then(|| self.encoders.prompt(&generation.negative_prompt, summary)).transpose()?;
        let mut conditions = Conditions { prompt, negative, pictures: Vec::new(), sound: None };
        let factor = self.configuration.vae.spatial_factor();
        let sizes = [self.first_size(generation), self.configuration.latent_size(generation)];
        let stages = if generation.upscale { &sizes[..] } else { &sizes[..1] };
        for [_, rows, columns] in stages {
            let [height, width] = [rows, columns].map(|side| side * factor);
            let encode = |pipeline: &mut Self, picture: &Option<Picture>| {
                let Some(picture) = picture else { return Ok(None) };
                pipeline.generator()?.encode_picture(picture, width, height).map(Some)
            };
            conditions.pictures.push(GivenPictures {
                first: encode(self, &generation.first_frame)?,
                last: encode(self, &generation.last_frame)?,
            });
        }
        if let Some(sound) = &generation.audio_input {
            let tokens = self.configuration.sound_tokens(generation);
            conditions.sound = Some(self.generator()?.encode_sound(sound, tokens)?);
        }
        Ok(conditions)
    }

    fn denoise<E: From<PipelineError>>(
        &mut self,
        generation: &Generation,
        conditions: &Conditions,
        mut on_progress: impl FnMut(Progress) -> Result<(), E>,
    ) -> Result<Latents, E> {
        let mut noise = NoiseGenerator::new(generation.seed);
        let mut draw = |[video, sound]: [Vec<i64>; 2]| Noise {
            video: noise.normal(&video),
            sound: noise.normal(&sound),
        };
        let further = if generation.upscale { SECOND_STAGE_SIGMAS.len() as u32 } else { 0 };
        let total = generation.steps + further;
        let first = draw(self.noise_shapes(generation));
        let (mut video, mut sound) = self.denoise_from(&first, conditions, generation, |progress| {
            on_progress(progress.part_of(0, total))
        })?;
        if generation.upscale {
            let enlarged = self.enlarge(&video).map_err(E::from)?;
            let second = draw(self.refining_noise_shapes(generation));
            (video, sound) =
                self.refine_from(&second, (&enlarged, &sound), conditions, generation, |progress| {
                    on_progress(progress.part_of(generation.steps, total))
                })?;
        }
        Ok(Latents::new(vec![(VIDEO, video), (SOUND, sound)]))
    }

    fn decode<E: From<PipelineError>>(
        &mut self,
        latents: &Latents,
        on_progress: impl FnMut(Progress) -> Result<(), E>,
        on_frame: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let video = latents.get(VIDEO).map_err(PipelineError::from)?;
        self.decode_picture(video, on_progress, on_frame)
    }

    fn decode_sound(&mut self, latents: &Latents) -> Result<Option<SoundTrack>, PipelineError> {
        let tokens = latents.get(SOUND)?;
        let (waveform, rate) = self.decode_waveform(tokens)?;
        let channels: Vec<Vec<f32>> = waveform
            .unbind(0)
            .iter()
            .map(|channel| Vec::<f32>::try_from(channel.to_device(Device::Cpu)))
            .collect::<Result<_, _>>()
            .map_err(TensorError::from)?;
        Ok(SoundTrack::new(rate, channels))
    }
}
