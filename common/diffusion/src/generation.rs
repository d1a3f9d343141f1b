//! What is to be generated.

use std::hash::{DefaultHasher, Hash, Hasher};

use videosdgx_video::picture::Picture;
use videosdgx_video::schedulers::{FlowMatchEulerConfig, SchedulerConfig, SolverType, UniPcConfig};

use super::PipelineError;

/// Frames that become one latent frame, after the first.
pub(super) const TEMPORAL_FACTOR: i64 = 4;

/// A solver by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sampler {
    /// UniPC, multistep.
    UniPc,
    /// Flow matching with Euler steps.
    Euler,
}

/// One video (or, with one frame, picture) to make.
#[derive(Debug, Clone)]
pub struct Generation {
    /// What it shows.
    pub prompt: String,
    /// What it does not show; used when `guidance` is above 1.
    pub negative_prompt: String,
    /// Where it begins: for image to video, and only there.
    pub first_frame: Option<Picture>,
    /// Pixels, a multiple of 16.
    pub width: u32,
    /// Pixels, a multiple of 16.
    pub height: u32,
    /// 4k + 1.
    pub frames: u32,
    /// Denoising steps.
    pub steps: u32,
    /// Classifier-free guidance (Ho & Salimans 2022); 1 is none.
    pub guidance: f64,
    /// Same seed, machine and type: same bytes.
    pub seed: u64,
    /// Solver; the checkpoint's when absent.
    pub sampler: Option<Sampler>,
    /// Shift of the schedule towards noise; the checkpoint's when absent.
    pub shift: Option<f64>,
}

impl Generation {
    /// Whether the negative prompt is used.
    pub fn is_guided(&self) -> bool {
        self.guidance > 1.0
    }

    /// Checks what every Wan 2.1 model asks for; `multiple` is what sizes must be a multiple of.
    pub(super) fn check(&self, multiple: i64, takes_image: bool) -> Result<(), PipelineError> {
        let input = |field, reason: String| Err(PipelineError::Input { field, reason });
        for (field, side) in [("width", self.width), ("height", self.height)] {
            if side == 0 || i64::from(side) % multiple != 0 {
                return input(field, format!("{side} is not a multiple of {multiple}"));
            }
        }
        if i64::from(self.frames) % TEMPORAL_FACTOR != 1 {
            return input("num_frames", format!("{} is not 4k + 1", self.frames));
        }
        if self.steps == 0 {
            return input("steps", "at least one is needed".to_owned());
        }
        if !self.guidance.is_finite() {
            return input("guidance_scale", "is not a number".to_owned());
        }
        if !self.shift.is_none_or(|shift| shift.is_finite() && shift > 0.0) {
            return input("flow_shift", "is not above 0".to_owned());
        }
        match (&self.first_frame, takes_image) {
            (None, true) => input("image", "this model needs a first frame".to_owned()),
            (Some(_), false) => input("image", "this model takes no first frame".to_owned()),
            _ => Ok(()),
        }
    }

    /// The checkpoint's scheduler with this request's wishes.
    pub(super) fn scheduler(&self, checkpoint: &SchedulerConfig) -> SchedulerConfig {
        let (num_train_timesteps, shift) = match checkpoint {
            SchedulerConfig::UniPc(config) => (config.num_train_timesteps, config.flow_shift),
            SchedulerConfig::FlowMatchEuler(config) => (config.num_train_timesteps, config.shift),
        };
        let chosen = match (self.sampler, checkpoint) {
            (Some(Sampler::Euler), SchedulerConfig::UniPc(_)) => {
                SchedulerConfig::FlowMatchEuler(FlowMatchEulerConfig { num_train_timesteps, shift })
            }
            (Some(Sampler::UniPc), SchedulerConfig::FlowMatchEuler(_)) => {
                SchedulerConfig::UniPc(UniPcConfig {
                    num_train_timesteps,
                    flow_shift: shift,
                    solver_order: 2,
                    solver_type: SolverType::Bh2,
                    lower_order_final: true,
                    final_sigma_is_zero: true,
                    disable_corrector: Vec::new(),
                })
            }
            _ => checkpoint.clone(),
        };
        match self.shift {
            Some(shift) => chosen.with_shift(shift),
            None => chosen,
        }
    }

    /// Tells requests with different latents apart.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.prompt.hash(&mut hasher);
        if self.is_guided() {
            self.negative_prompt.hash(&mut hasher);
        }
        self.first_frame.as_ref().map(|picture| (picture.width(), picture.pixels())).hash(&mut hasher);
        (self.width, self.height, self.frames, self.steps, self.seed, self.sampler).hash(&mut hasher);
        (self.guidance.to_bits(), self.shift.map(f64::to_bits)).hash(&mut hasher);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            sampler: None,
            shift: None,
        }
    }

    #[test]
    fn what_no_model_can_make_is_refused_by_field() {
        let field = |change: fn(&mut Generation)| {
            let mut generation = generation();
            change(&mut generation);
            match generation.check(16, false) {
                Err(PipelineError::Input { field, .. }) => field,
                other => panic!("{other:?}"),
            }
        };
        assert!(generation().check(16, false).is_ok());
        assert_eq!(field(|g| g.width = 0), "width");
        assert_eq!(field(|g| g.height = 50), "height");
        assert_eq!(field(|g| g.frames = 16), "num_frames");
        assert_eq!(field(|g| g.steps = 0), "steps");
        assert_eq!(field(|g| g.guidance = f64::NAN), "guidance_scale");
        assert_eq!(field(|g| g.shift = Some(0.0)), "flow_shift");
        assert_eq!(field(|g| g.first_frame = Picture::new(1, 1, vec![0; 3])), "image");
        assert!(generation().check(16, true).is_err());
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
