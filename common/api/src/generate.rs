//! What a person sends to have a video made, and what is answered at once.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{JobId, JobStatus, Priority};

/// Body of `POST /generate`. Only `prompt` is needed: the checkpoint's own defaults fill in the rest, and the job says
/// what was used. Each model's limits are in its `/info`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GenerateRequest {
    /// What the video shows, 1 to 1000 characters.
    #[schema(min_length = 1, max_length = 1000, example = "a red circle moving right on a black background")]
    pub prompt: String,
    /// What it should not show, at most 1000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 1000)]
    pub negative_prompt: Option<String>,
    /// Length in seconds, up to 60; rounded to a number of frames that the model can make. Not together with `num_frames`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(exclusive_minimum = 0.0, maximum = 60.0, example = 2.0)]
    pub duration: Option<f64>,
    /// Frames per second of the file, 1 to 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 60)]
    pub fps: Option<u32>,
    /// Width and height in pixels, for example `832x480`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^[1-9][0-9]{0,4}x[1-9][0-9]{0,4}$", example = "64x64")]
    pub resolution: Option<Resolution>,
    /// Number of frames, 4k+1; 1 makes a still. Not together with `duration`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub num_frames: Option<u32>,
    /// Denoising steps, 1 to 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 200)]
    pub steps: Option<u32>,
    /// Classifier-free guidance, 1 (none) to 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1.0, maximum = 20.0)]
    pub guidance_scale: Option<f64>,
    /// Same seed, machine and number format: the same bytes. Random unless told; the job says which was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    pub seed: Option<u64>,
    /// 0 (least urgent) to 9, 5 unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// First frame for image-to-video checkpoints: PNG, JPEG or WebP as a data URI or plain base64, at most 10 MiB decoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = json!(null))]
    pub image: Option<String>,
    /// Codec inside the MP4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<OutputFormat>,
    /// Sampler; the checkpoint's own unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<SchedulerName>,
}

/// Codec inside the MP4 file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OutputFormat {
    /// H.264, plays everywhere.
    #[default]
    #[serde(alias = "mp4")]
    H264,
    /// AV1, free of royalties.
    Av1,
}

/// Samplers of the flow-matching models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SchedulerName {
    /// UniPC multistep, order 2.
    Unipc,
    /// Flow-match Euler.
    Euler,
}

/// A picture's size in pixels, spelled `WIDTHxHEIGHT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Resolution {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
}

impl FromStr for Resolution {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let side = |side: &str| match side.as_bytes() {
            [b'1'..=b'9', rest @ ..] if rest.len() < 5 && rest.iter().all(u8::is_ascii_digit) => {
                side.parse().ok()
            }
            _ => None,
        };
        text.split_once('x')
            .and_then(|(width, height)| Some(Self { width: side(width)?, height: side(height)? }))
            .ok_or_else(|| "a resolution is spelled WIDTHxHEIGHT, for example 832x480".to_owned())
    }
}

impl TryFrom<String> for Resolution {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Resolution> for String {
    fn from(resolution: Resolution) -> Self {
        resolution.to_string()
    }
}

impl fmt::Display for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// A request with every default filled in and every limit checked: what is stored in the queue and given to the engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResolvedRequest {
    /// As sent.
    pub prompt: String,
    /// Empty when none was sent and the checkpoint has no default.
    pub negative_prompt: String,
    /// Pixels, both multiples of the model's step.
    pub resolution: Resolution,
    /// 4k+1.
    pub num_frames: u32,
    /// Frames per second of the file.
    pub fps: u32,
    /// Denoising steps.
    pub steps: u32,
    /// Classifier-free guidance, 1 = none.
    pub guidance_scale: f64,
    /// As sent, or drawn when the request was accepted, so that a second attempt makes the same video.
    pub seed: u64,
    /// Codec.
    pub format: OutputFormat,
    /// Sampler.
    pub scheduler: SchedulerName,
    /// First frame, encoded PNG, JPEG or WebP in base64 (checked to decode when the request was accepted).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Name of the checkpoint the defaults came from.
    pub checkpoint: String,
    /// What the person should know, for example words outside the checkpoint's vocabulary.
    #[serde(default)]
    pub warnings: Vec<String>,
}

impl ResolvedRequest {
    /// Length of the file in seconds.
    #[must_use]
    pub fn duration(&self) -> f64 {
        f64::from(self.num_frames) / f64::from(self.fps.max(1))
    }
}

/// What the engine can tell of a finished video.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Generated {
    /// Seconds spent in each stage, in order.
    pub stage_seconds: Vec<(String, f64)>,
}

/// Answer of `POST /generate` (202).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GenerateAccepted {
    /// Name to poll by.
    pub job_id: JobId,
    /// `queued`, or what an earlier submission with the same `Idempotency-Key` has come to.
    pub status: JobStatus,
    /// 1 = next; 0 = no longer waiting.
    pub queue_position: u64,
    /// Estimate until completion, from the last jobs; includes loading when the model is not loaded.
    pub estimated_time_seconds: f64,
    /// Whether the model is in memory now.
    pub model_loaded: bool,
    /// Name of the checkpoint that will be used.
    pub checkpoint: String,
    /// What the person should know, for example words outside the checkpoint's vocabulary.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Body of `POST /generate/batch`: all are accepted, or none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    /// 1 to 64 requests.
    #[schema(min_items = 1, max_items = 64)]
    pub requests: Vec<GenerateRequest>,
}

/// Answer of `POST /generate/batch` (202), in the order of the requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BatchAccepted {
    /// One answer a request.
    pub jobs: Vec<GenerateAccepted>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolution_round_trips_and_refuses_what_is_not_one() {
        assert_eq!("832x480".parse(), Ok(Resolution { width: 832, height: 480 }));
        assert_eq!(Resolution { width: 64, height: 48 }.to_string(), "64x48");
        for text in
            ["", "64", "64x", "x64", "-1x2", "+64x64", "064x64", "64X64", "64x64x64", "99999999x64", "6 4x64"]
        {
            assert!(text.parse::<Resolution>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn unknown_fields_are_refused_by_name() {
        let error = serde_json::from_str::<GenerateRequest>(r#"{"prompt":"a","guidance":3}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `guidance`"), "{error}");
    }
}
