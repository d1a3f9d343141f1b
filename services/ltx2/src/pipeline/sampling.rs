//! How a checkpoint is sampled: which noise levels, and which guidances by default.

use videosdgx_diffusion::Guidances;
use videosdgx_diffusion::schedulers::SchedulerConfig;

use super::guidance::GuidanceScales;
use crate::transformer::TransformerConfig;

/// Noise levels of the distilled models (Lightricks' `DISTILLED_SIGMA_VALUES`).
pub const DISTILLED_SIGMAS: [f64; 8] = [1.0, 0.993_75, 0.987_5, 0.981_25, 0.975, 0.909_375, 0.725, 0.421_875];
/// Noise levels of the second stage, after the latents were enlarged.
pub const SECOND_STAGE_SIGMAS: [f64; 3] = [0.909_375, 0.725, 0.421_875];

/// How a checkpoint was trained to be sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Many steps, with guidances.
    Full,
    /// [`DISTILLED_SIGMAS`], without guidance.
    Distilled,
    /// A demonstration checkpoint: what its `demo.json` says.
    Demonstration,
}

impl Form {
    /// Distilled checkpoints have a scheduler whose shift is constant: their noise levels are given.
    #[must_use]
    pub fn of(scheduler: &SchedulerConfig, demonstration: bool) -> Self {
        match (demonstration, scheduler.require_constant_shift()) {
            (true, _) => Self::Demonstration,
            (false, Ok(())) => Self::Distilled,
            (false, Err(_)) => Self::Full,
        }
    }

    /// The noise levels of `steps` steps before the scheduler's shift.
    #[must_use]
    pub fn sigmas(self, steps: u32) -> Vec<f64> {
        if self == Self::Distilled && steps as usize == DISTILLED_SIGMAS.len() {
            return DISTILLED_SIGMAS.to_vec();
        }
        let last = 1.0 / f64::from(steps.max(1));
        let spacing = (1.0 - last) / f64::from(steps.saturating_sub(1).max(1));
        (0..steps).map(|step| 1.0 - spacing * f64::from(step)).collect()
    }
}

/// Guidances of picture and sound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guidance {
    /// Of the picture.
    pub video: GuidanceScales,
    /// Of the sound.
    pub audio: GuidanceScales,
}

impl Guidance {
    /// Classifier-free guidance only, the same for both.
    #[must_use]
    pub fn text(scale: f64) -> Self {
        Self { video: GuidanceScales::text(scale), audio: GuidanceScales::text(scale) }
    }

    /// What the model's authors recommend for a full checkpoint, with `scale` for the picture's prompt: the sound follows
    /// its prompt more closely, and models that can be perturbed use that too.
    #[must_use]
    pub fn recommended(scale: f64, transformer: &TransformerConfig) -> Self {
        let perturbed = if transformer.perturbed_attn { 1.0 } else { 0.0 };
        let video = GuidanceScales { text: scale, perturbed, isolated: 3.0, rescale: 0.7 };
        Self { video, audio: GuidanceScales { text: scale * AUDIO_TO_VIDEO, ..video } }
    }

    /// These guidances with what a request names.
    #[must_use]
    pub fn with(self, named: &Guidances) -> Self {
        let both = |scales: GuidanceScales| GuidanceScales {
            perturbed: named.perturbed.unwrap_or(scales.perturbed),
            isolated: named.isolated.unwrap_or(scales.isolated),
            rescale: named.rescale.unwrap_or(scales.rescale),
            ..scales
        };
        let audio = both(self.audio);
        let text = named.audio.unwrap_or(audio.text);
        Self { video: both(self.video), audio: GuidanceScales { text, ..audio } }
    }

    /// Whether the negative prompt is used.
    #[must_use]
    pub fn uses_negative_prompt(&self) -> bool {
        self.any(|scales| scales.text > 1.0)
    }

    /// Whether a prediction with perturbed attention is used.
    #[must_use]
    pub fn perturbs(&self) -> bool {
        self.any(|scales| scales.perturbed > 0.0)
    }

    /// Whether a prediction without attention between picture and sound is used.
    #[must_use]
    pub fn isolates(&self) -> bool {
        self.any(|scales| scales.isolated > 1.0)
    }

    fn any(&self, uses: impl Fn(&GuidanceScales) -> bool) -> bool {
        uses(&self.video) || uses(&self.audio)
    }
}

/// Recommended scale for the sound over that for the picture: 7 to 3.
const AUDIO_TO_VIDEO: f64 = 7.0 / 3.0;

/// The block whose self-attention is perturbed: the last but nineteen of the published 48, as recommended for LTX-2.3.
#[must_use]
pub fn perturbed_block(layers: i64) -> i64 {
    28.min(layers - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_levels_follow_the_form() {
        assert_eq!(Form::Full.sigmas(4), [1.0, 0.75, 0.5, 0.25]);
        assert_eq!(Form::Full.sigmas(1), [1.0]);
        assert_eq!(Form::Distilled.sigmas(8), DISTILLED_SIGMAS);
        assert_eq!(Form::Demonstration.sigmas(8)[7], 0.125);
        assert_eq!(Form::Distilled.sigmas(2), [1.0, 0.5]);
    }
}
