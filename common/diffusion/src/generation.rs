//! The input of a pipeline for one generation.

use std::hash::{DefaultHasher, Hash, Hasher};

use videosdgx_api::{FrameRule, Problem, ResolvedRequest, SchedulerName};
use videosdgx_picture::Picture;
use videosdgx_service::first_frame;

use crate::schedulers::SchedulerConfig;
use crate::{ChosenLora, PipelineError};

/// The input of one generation: prompt, first frame, size, schedule and seed. One frame is a picture.
#[derive(Debug, Clone, Default)]
pub struct Generation {
    /// What the video shows.
    pub prompt: String,
    /// What it does not show; used when `guidance` is above 1.
    pub negative_prompt: String,
    /// First frame: required by image-to-video checkpoints, refused by others.
    pub first_frame: Option<Picture>,
    /// Width in pixels, a multiple of the model's size step.
    pub width: u32,
    /// Height in pixels, a multiple of the model's size step.
    pub height: u32,
    /// Number of frames, one that the model's frame rule allows.
    pub frames: u32,
    /// Denoising steps.
    pub steps: u32,
    /// Scale of classifier-free guidance (Ho & Salimans 2022); 1 is none.
    pub guidance: f64,
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

impl Generation {
    /// Whether the negative prompt is used.
    #[must_use]
    pub fn is_guided(&self) -> bool {
        self.guidance > 1.0
    }

    /// From a job of the queue; decodes the first frame.
    ///
    /// # Errors
    /// A problem of the field `image`.
    pub fn from_job(job: &ResolvedRequest) -> Result<Self, Problem> {
        let settings = &job.settings;
        Ok(Self {
            prompt: settings.prompt.clone(),
            negative_prompt: settings.negative_prompt.clone(),
            first_frame: settings.image.as_deref().map(first_frame::decode).transpose()?,
            width: settings.resolution.width,
            height: settings.resolution.height,
            frames: settings.num_frames,
            steps: settings.steps,
            guidance: settings.guidance_scale,
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

    /// Checks the fields against what a checkpoint can do: sizes are multiples of `size_step`, the number of
    /// frames follows `frame_rule`, and a first frame is given if and only if `takes_image`.
    ///
    /// # Errors
    /// [`PipelineError::Input`] naming the field.
    pub fn check(
        &self,
        size_step: i64,
        frame_rule: FrameRule,
        takes_image: bool,
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
        match (&self.first_frame, takes_image) {
            (None, true) => input("image", "this model needs a first frame".to_owned()),
            (Some(_), false) => input("image", "this model does not take a first frame".to_owned()),
            _ => Ok(()),
        }
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
            width,
            height,
            frames,
            steps,
            guidance,
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
        first_frame.as_ref().map(|picture| (picture.width(), picture.pixels())).hash(&mut hasher);
        (width, height, frames, steps, seed, scheduler, job_fingerprint).hash(&mut hasher);
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
            match generation.check(16, WAN, false) {
                Err(PipelineError::Input { field, .. }) => field,
                other => panic!("{other:?}"),
            }
        };
        assert!(generation().check(16, WAN, false).is_ok());
        assert_eq!(field(|g| g.width = 0), "width");
        assert_eq!(field(|g| g.height = 50), "height");
        assert_eq!(field(|g| g.frames = 16), "num_frames");
        assert_eq!(field(|g| g.steps = 0), "steps");
        assert_eq!(field(|g| g.guidance = f64::NAN), "guidance_scale");
        assert_eq!(field(|g| g.shift = Some(0.0)), "flow_shift");
        assert_eq!(field(|g| g.first_frame = Picture::new(1, 1, vec![0; 3])), "image");
        assert!(generation().check(16, WAN, true).is_err());
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
        assert_eq!(fingerprint(|_| ()), base);
    }
}
