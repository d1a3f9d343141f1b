//! What a video model is and can do. Defaults, validation and messages follow from this description.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{OutputFormat, Resolution, SchedulerName};

/// What a checkpoint is, its defaults, and what it can make at most.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelDescription {
    /// The service's name.
    pub name: String,
    /// The checkpoint's name.
    pub checkpoint: String,
    /// Identifies the checkpoint's files: it changes when they are exchanged, also under the same name.
    pub fingerprint: String,
    /// Architecture class in the checkpoint's configuration.
    pub architecture: String,
    /// Whether this is the small demonstration checkpoint.
    pub demonstration: bool,
    /// `text-to-video`, `image-to-video`, `text-to-image`.
    pub tasks: Vec<String>,
    /// `cpu` or `cuda:0`.
    pub device: String,
    /// Why the model computes there, for example `libtorch has no CUDA` or `NVIDIA GB10, capability 12.1`.
    #[serde(default)]
    pub device_reason: String,
    /// `bf16`, `f16` or `f32`.
    pub dtype: String,
    /// `none`, or the weight format of quantized layers, for example `fp8`.
    pub quantization: String,
    /// Parameters of the whole pipeline.
    pub parameters: u64,
    /// Resolution of a request that names none.
    #[schema(value_type = String, example = "64x64")]
    pub default_resolution: Resolution,
    /// Number of frames of a request that names neither `num_frames` nor `duration`.
    pub default_num_frames: u32,
    /// Frames per second of a request that names none.
    pub default_fps: u32,
    /// Denoising steps of a request that names none.
    pub default_steps: u32,
    /// Guidance scale of a request that names none.
    pub default_guidance_scale: f64,
    /// Scheduler of a request that names none.
    pub default_scheduler: SchedulerName,
    /// Codec of a request that names none.
    pub default_format: OutputFormat,
    /// A prompt to try.
    pub example_prompt: String,
    /// What the checkpoint accepts.
    pub limits: ModelLimits,
}

/// Limits and abilities of a checkpoint on this machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelLimits {
    /// Width and height are multiples of this.
    pub size_multiple: u32,
    /// Smallest side in pixels.
    pub min_side: u32,
    /// Largest side in pixels.
    pub max_side: u32,
    /// Which numbers of frames are possible.
    pub frame_rule: FrameRule,
    /// Most frames.
    pub max_frames: u32,
    /// Most width × height × frames.
    pub max_pixels: u64,
    /// Most denoising steps.
    pub max_steps: u32,
    /// Most characters of a prompt.
    pub max_prompt_characters: u32,
    /// Most seconds.
    pub max_duration_seconds: u32,
    /// Whether a request can or must have a first frame, `image`.
    pub image: Support,
    /// Whether a request can or must have a last frame, `last_image`.
    pub last_image: Support,
    /// Whether the video has a sound track: `none`, `optional` (unless a request has `audio: false`) or `required` (always).
    pub audio: Support,
    /// Most LoRAs of a request; 0 if the model takes none.
    #[serde(default)]
    pub max_loras: u32,
    /// Whether a request can or must have given sound, `audio_input`.
    #[serde(default)]
    pub audio_input: Support,
    /// Whether a request can have `audio_guidance_scale`, `stg_scale`, `modality_scale` and `guidance_rescale`.
    #[serde(default)]
    pub guidances: Support,
    /// Whether a request can have `upscale`.
    #[serde(default)]
    pub upscale: Support,
    /// Schedulers that a request can name.
    pub schedulers: Vec<SchedulerName>,
    /// Formats that a request can name.
    pub formats: Vec<OutputFormat>,
}

/// Whether a model supports an input or output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Support {
    /// Not supported.
    #[default]
    #[serde(rename = "none")]
    Unsupported,
    /// Supported, not required.
    Optional,
    /// Required.
    Required,
}

/// The numbers of frames that a model can make: `step`·k + `offset`, k = 0, 1, 2, ….
///
/// ```
/// use videosdgx_api::FrameRule;
///
/// let rule = FrameRule { step: 4, offset: 1 };
/// assert!(rule.allows(81) && !rule.allows(80));
/// assert_eq!((rule.to_string().as_str(), rule.nearest(80.0)), ("4k+1", 81));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FrameRule {
    /// Distance between possible numbers of frames, at least 1.
    #[schema(minimum = 1, example = 4)]
    pub step: u32,
    /// The smallest possible number of frames, or 0.
    #[schema(example = 1)]
    pub offset: u32,
}

impl FrameRule {
    /// Whether the model can make this number of frames; 0 is never possible.
    #[must_use]
    pub fn allows(self, frames: u32) -> bool {
        frames > 0
            && frames.checked_sub(self.offset).is_some_and(|rest| rest.is_multiple_of(self.step.max(1)))
    }

    /// The smallest possible number of frames.
    #[must_use]
    pub fn smallest(self) -> u32 {
        if self.offset == 0 { self.step.max(1) } else { self.offset }
    }

    /// The possible number of frames nearest to `frames`.
    #[must_use]
    pub fn nearest(self, frames: f64) -> u32 {
        let step = self.step.max(1);
        let groups = ((frames - f64::from(self.offset)) / f64::from(step)).round().max(0.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative; `as` saturates"
        )]
        let groups = groups as u32;
        groups.saturating_mul(step).saturating_add(self.offset).max(self.smallest())
    }

    /// The largest possible number of frames that is at most `frames`, or the smallest possible one.
    #[must_use]
    pub fn at_most(self, frames: u32) -> u32 {
        let step = self.step.max(1);
        (frames.saturating_sub(self.offset) / step * step + self.offset).max(self.smallest())
    }
}

impl fmt::Display for FrameRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.step, self.offset) {
            (0 | 1, 0 | 1) => f.write_str("any number"),
            (step, 0) => write!(f, "{step}k"),
            (step, offset) => write!(f, "{step}k+{offset}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_rules_allow_their_multiples() {
        let wan = FrameRule { step: 4, offset: 1 };
        for (frames, nearest, at_most) in
            [(1, 1, 1), (2, 1, 1), (4, 5, 1), (5, 5, 5), (16, 17, 13), (83, 85, 81)]
        {
            assert_eq!(wan.nearest(f64::from(frames)), nearest, "{frames}");
            assert_eq!(wan.at_most(frames), at_most, "{frames}");
            assert_eq!(wan.allows(frames), frames % 4 == 1);
        }
        assert!(!wan.allows(0));
        let multiples = FrameRule { step: 8, offset: 0 };
        assert_eq!((multiples.nearest(0.1), multiples.at_most(3), multiples.smallest()), (8, 8, 8));
        assert!(multiples.allows(8) && !multiples.allows(0) && !multiples.allows(9));
        let any = FrameRule { step: 1, offset: 0 };
        assert!(any.allows(1) && any.allows(2) && !any.allows(0));
        assert_eq!([wan, multiples, any].map(|rule| rule.to_string()), ["4k+1", "8k", "any number"]);
    }

    #[test]
    fn nearest_saturates() {
        let rule = FrameRule { step: 4, offset: 1 };
        assert_eq!((rule.nearest(-5.0), rule.nearest(f64::INFINITY)), (1, u32::MAX));
    }
}
