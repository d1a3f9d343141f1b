//! The input of a pipeline for one generation.

use std::hash::{DefaultHasher, Hash, Hasher};

use videosdgx_api::{FrameRule, Problem, ResolvedRequest, SchedulerName, Support};
use videosdgx_picture::Picture;
use videosdgx_service::picture_input::{self, FIRST_FRAME, LAST_FRAME};
use videosdgx_service::sound_input;
use videosdgx_sound::Sound;

use crate::schedulers::SchedulerConfig;
use crate::{ChosenLora, PipelineError};

/// The input of one generation: prompt, given frames and sound, size, schedule and seed. One frame is a picture.
#[derive(Debug, Clone, Default)]
pub struct Generation {
    /// What the video shows.
    pub prompt: String,
    /// What it does not show; used when `guidance` is above 1.
    pub negative_prompt: String,
    /// First frame: required by image-to-video checkpoints, refused by others.
    pub first_frame: Option<Picture>,
    /// Last frame, only with a first one; refused by checkpoints that do not take it.
    pub last_frame: Option<Picture>,
    /// Whether sound is made: [`Pipeline::decode_sound`](crate::Pipeline::decode_sound) is called.
    pub audio: bool,
    /// Given sound that the picture is made to, not longer than the video, at the rate of its file; only with `audio`.
    pub audio_input: Option<Sound>,
    /// Width in pixels, a multiple of the model's size step.
    pub width: u32,
    /// Height in pixels, a multiple of the model's size step.
    pub height: u32,
    /// Number of frames, one that the model's frame rule allows.
    pub frames: u32,
    /// Frames per second.
    pub fps: u32,
    /// Whether the video is made at half of its width and height first, then enlarged and refined.
    pub upscale: bool,
    /// Denoising steps.
    pub steps: u32,
    /// Scale of classifier-free guidance (Ho & Salimans 2022); 1 is none.
    pub guidance: f64,
    /// Further guidances.
    pub guidances: Guidances,
    /// Seed of the noise. The same seed gives the same bytes on the same machine with the same program, checkpoint and
    /// [`crate::PipelineOptions`].
    pub seed: u64,
    /// Scheduler; default: the checkpoint's.
    pub scheduler: Option<SchedulerName>,
    /// Shift of the schedule towards noise; default: the checkpoint's.
    pub shift: Option<f64>,
    /// Hash of all settings of the job, including those that have no field above, and of its checkpoint; `None` outside a
    /// queue.
    pub job_fingerprint: Option<u64>,
}

/// Guidances beside that of the picture's prompt; `None` is what the model recommends.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Guidances {
    /// Scale of classifier-free guidance of the sound.
    pub audio: Option<f64>,
    /// Scale of spatio-temporal guidance, away from a prediction with perturbed attention; 0 is none.
    pub perturbed: Option<f64>,
    /// Scale of the guidance away from picture and sound that do not know of each other; 1 is none.
    pub isolated: Option<f64>,
    /// Share of the rescaling to the deviation of the unguided prediction; 0 is none.
    pub rescale: Option<f64>,
}

/// Which optional inputs and outputs a checkpoint has; by default none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Abilities {
    /// [`Generation::first_frame`].
    pub image: Support,
    /// [`Generation::last_frame`].
    pub last_image: Support,
    /// [`Generation::audio`].
    pub audio: Support,
    /// [`Generation::audio_input`].
    pub audio_input: Support,
    /// [`Generation::upscale`].
    pub upscale: Support,
}

impl Generation {
    /// Whether the negative prompt is used.
    #[must_use]
    pub fn is_guided(&self) -> bool {
        self.guidance > 1.0
    }

    /// From a job of the queue; decodes its pictures and its sound.
    ///
    /// # Errors
    /// A problem of the field `image`, `last_image` or `audio_input`.
    pub fn from_job(job: &ResolvedRequest) -> Result<Self, Problem> {
        let settings = &job.settings;
        let picture = |field, image: &Option<String>| {
            image.as_deref().map(|image| picture_input::decode(field, image)).transpose()
        };
        let sound = settings.audio_input.as_deref();
        Ok(Self {
            prompt: settings.prompt.clone(),
            negative_prompt: settings.negative_prompt.clone(),
            first_frame: picture(FIRST_FRAME, &settings.image)?,
            last_frame: picture(LAST_FRAME, &settings.last_image)?,
            audio: settings.audio,
            audio_input: sound.map(|sound| sound_input::decode(sound, settings.duration())).transpose()?,
            width: settings.resolution.width,
            height: settings.resolution.height,
            frames: settings.num_frames,
            fps: settings.fps,
            upscale: settings.upscale,
            steps: settings.steps,
            guidance: settings.guidance_scale,
            guidances: Guidances {
                audio: settings.audio_guidance_scale,
                perturbed: settings.stg_scale,
                isolated: settings.modality_scale,
                rescale: settings.guidance_rescale,
            },
            seed: settings.seed,
            scheduler: Some(settings.scheduler),
            shift: None,
            job_fingerprint: Some(job_fingerprint(job)),
        })
    }

    /// The same generation with LoRAs: their files count in its fingerprint. Their names and scales are settings of the job.
    #[must_use]
    pub fn with_loras(mut self, loras: &[ChosenLora]) -> Self {
        if !loras.is_empty() {
            let mut hasher = DefaultHasher::new();
            self.job_fingerprint.hash(&mut hasher);
            for lora in loras {
                (lora.name(), lora.fingerprint(), lora.scale().to_bits()).hash(&mut hasher);
            }
            self.job_fingerprint = Some(hasher.finish());
        }
        self
    }

    /// Checks the fields against what a checkpoint can do: sizes are multiples of `size_step`, the number of frames follows
    /// `frame_rule`, and inputs and outputs are as `abilities` say.
    ///
    /// # Errors
    /// [`PipelineError::Input`] naming the field.
    pub fn check(
        &self,
        size_step: i64,
        frame_rule: FrameRule,
        abilities: &Abilities,
    ) -> Result<(), PipelineError> {
        let input = |field, reason: String| Err(PipelineError::Input { field, reason });
        for (field, side) in [("width", self.width), ("height", self.height)] {
            if side == 0 || i64::from(side) % size_step != 0 {
                return input(field, format!("{side} is not a multiple of {size_step}"));
            }
        }
        if !frame_rule.allows(self.frames) {
            return input("num_frames", format!("{} is not {frame_rule}", self.frames));
        }
        if self.steps == 0 {
            return input("steps", "must be at least 1".to_owned());
        }
        if !self.guidance.is_finite() {
            return input("guidance_scale", "must be a finite number".to_owned());
        }
        if !self.shift.is_none_or(|shift| shift.is_finite() && shift > 0.0) {
            return input("flow_shift", "must be above 0".to_owned());
        }
        for (field, what, is_present, support) in [
            (FIRST_FRAME, "a first frame", self.first_frame.is_some(), abilities.image),
            (LAST_FRAME, "a last frame", self.last_frame.is_some(), abilities.last_image),
            ("audio", "sound to be made", self.audio, abilities.audio),
            ("audio_input", "given sound", self.audio_input.is_some(), abilities.audio_input),
            ("upscale", "enlarging", self.upscale, abilities.upscale),
        ] {
            match (is_present, support) {
                (false, Support::Required) => return input(field, format!("this model needs {what}")),
                (true, Support::Unsupported) => {
                    return input(field, format!("this model does not support {what}"));
                }
                _ => {}
            }
        }
        if self.last_frame.is_some() && (self.first_frame.is_none() || self.frames < 2) {
            return input(LAST_FRAME, "needs a first frame before it".to_owned());
        }
        if self.audio_input.is_some() && !self.audio {
            return input("audio_input", "needs a video with sound".to_owned());
        }
        Ok(())
    }

    /// The checkpoint's scheduler with this request's scheduler and shift.
    #[must_use]
    pub fn scheduler(&self, checkpoint: &SchedulerConfig) -> SchedulerConfig {
        let config = match self.scheduler {
            Some(name) => checkpoint.with_scheduler(name),
            None => checkpoint.clone(),
        };
        match self.shift {
            Some(shift) => config.with_shift(shift),
            None => config,
        }
    }

    /// Hash of everything that the latents depend on, as a name for stored latents.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        // Without `..`, so that a new field cannot be left out.
        let Self {
            prompt,
            negative_prompt,
            first_frame,
            last_frame,
            audio,
            audio_input,
            width,
            height,
            frames,
            fps,
            upscale,
            steps,
            guidance,
            guidances,
            seed,
            scheduler,
            shift,
            job_fingerprint,
        } = self;
        let mut hasher = DefaultHasher::new();
        prompt.hash(&mut hasher);
        if self.is_guided() {
            negative_prompt.hash(&mut hasher);
        }
        for frame in [first_frame, last_frame] {
            frame.as_ref().map(|picture| (picture.width(), picture.pixels())).hash(&mut hasher);
        }
        audio.hash(&mut hasher);
        audio_input.as_ref().map(Sound::rate).hash(&mut hasher);
        for channel in audio_input.iter().flat_map(Sound::samples) {
            channel.len().hash(&mut hasher);
            channel.iter().for_each(|sample| sample.to_bits().hash(&mut hasher));
        }
        (width, height, frames, fps, upscale, steps, seed, scheduler, job_fingerprint).hash(&mut hasher);
        let Guidances { audio: of_audio, perturbed, isolated, rescale } = guidances;
        [of_audio, perturbed, isolated, rescale].map(|scale| scale.map(f64::to_bits)).hash(&mut hasher);
        (guidance.to_bits(), shift.map(f64::to_bits)).hash(&mut hasher);
        hasher.finish()
    }
}

/// Latents of one checkpoint are not decoded by another: they have another name.
fn job_fingerprint(job: &ResolvedRequest) -> u64 {
    let mut hasher = DefaultHasher::new();
    (job.settings.fingerprint(), &job.fingerprint).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAN: FrameRule = FrameRule { step: 4, offset: 1 };

    fn picture() -> Option<Picture> {
        Picture::new(1, 1, vec![0; 3])
    }

    fn sound(sample: f32) -> Option<Sound> {
        Sound::new(8_000, vec![vec![sample; 2]])
    }

    fn generation() -> Generation {
        Generation {
            prompt: "a red circle".into(),
            negative_prompt: String::new(),
            first_frame: None,
            width: 64,
            height: 48,
            frames: 17,
            steps: 20,
            guidance: 4.0,
            seed: 1,
            ..Generation::default()
        }
    }

    #[test]
    fn invalid_requests_are_refused_by_field() {
        let field = |change: fn(&mut Generation)| {
            let mut generation = generation();
            change(&mut generation);
            match generation.check(16, WAN, &Abilities::default()) {
                Err(PipelineError::Input { field, .. }) => field,
                other => panic!("{other:?}"),
            }
        };
        assert!(generation().check(16, WAN, &Abilities::default()).is_ok());
        assert_eq!(field(|g| g.width = 0), "width");
        assert_eq!(field(|g| g.height = 50), "height");
        assert_eq!(field(|g| g.frames = 16), "num_frames");
        assert_eq!(field(|g| g.steps = 0), "steps");
        assert_eq!(field(|g| g.guidance = f64::NAN), "guidance_scale");
        assert_eq!(field(|g| g.shift = Some(0.0)), "flow_shift");
        assert_eq!(field(|g| g.first_frame = picture()), "image");
        assert_eq!(field(|g| g.last_frame = picture()), "last_image");
        assert_eq!(field(|g| g.audio = true), "audio");
        assert_eq!(field(|g| g.audio_input = sound(0.0)), "audio_input");
    }

    #[test]
    fn a_model_with_every_ability_refuses_what_contradicts_itself() {
        let abilities = Abilities {
            image: Support::Optional,
            last_image: Support::Optional,
            audio: Support::Optional,
            audio_input: Support::Optional,
            upscale: Support::Optional,
        };
        let checked = |change: fn(&mut Generation), abilities: Abilities| {
            let mut generation = generation();
            change(&mut generation);
            match generation.check(16, WAN, &abilities) {
                Err(PipelineError::Input { field, .. }) => Some(field),
                other => other.map(|()| None).expect("only inputs are refused"),
            }
        };
        let all: fn(&mut Generation) = |g| {
            (g.first_frame, g.last_frame) = (picture(), picture());
            (g.audio, g.audio_input) = (true, sound(0.0));
        };
        assert_eq!(checked(all, abilities), None);
        assert_eq!(checked(|_| (), abilities), None);
        assert_eq!(checked(|g| g.last_frame = picture(), abilities), Some("last_image"));
        assert_eq!(checked(|g| g.audio_input = sound(0.0), abilities), Some("audio_input"));
        assert_eq!(checked(|_| (), Abilities { image: Support::Required, ..abilities }), Some("image"));
        assert_eq!(checked(|_| (), Abilities { audio: Support::Required, ..abilities }), Some("audio"));
    }

    #[test]
    fn the_fingerprint_follows_what_changes_the_latents() {
        let fingerprint = |change: fn(&mut Generation)| {
            let mut generation = generation();
            change(&mut generation);
            generation.fingerprint()
        };
        let base = generation().fingerprint();
        assert_ne!(fingerprint(|g| g.seed = 2), base);
        assert_ne!(fingerprint(|g| g.guidance = 3.0), base);
        assert_ne!(fingerprint(|g| g.negative_prompt.push('x')), base);
        assert_ne!(fingerprint(|g| g.shift = Some(5.0)), base);
        let with_image = fingerprint(|g| g.first_frame = picture());
        let with_last_image = fingerprint(|g| g.last_frame = picture());
        assert!(with_image != base && with_last_image != base && with_image != with_last_image);
        assert_ne!(fingerprint(|g| g.audio = true), base);
        assert_ne!(fingerprint(|g| g.audio_input = sound(0.0)), base);
        assert_ne!(fingerprint(|g| g.audio_input = sound(0.0)), fingerprint(|g| g.audio_input = sound(0.5)));
        assert_eq!(fingerprint(|_| ()), base);
    }
}
