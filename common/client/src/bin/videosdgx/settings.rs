//! Settings of a generation as command-line options.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use videosdgx_api::{
    AudioFormat, GenerateRequest, LoraChoice, OutputFormat, Priority, Resolution, SchedulerName,
};

use crate::failure::{Exit, Failure};

/// Largest file in bytes that the API accepts.
const MAX_FILE_BYTES: u64 = 10 << 20;

/// Options of `videosdgx generate` that become fields of the request. Default: the checkpoint's defaults.
#[derive(Debug, Args)]
pub(crate) struct SettingArgs {
    /// What the video should not show.
    #[arg(short, long)]
    negative_prompt: Option<String>,
    /// Length in seconds.
    #[arg(short, long, conflicts_with = "num_frames")]
    duration: Option<f64>,
    /// Frames per second.
    #[arg(long)]
    fps: Option<u32>,
    /// Size in pixels, for example 832x480.
    #[arg(short, long, value_name = "WIDTHxHEIGHT")]
    resolution: Option<Resolution>,
    /// Number of frames that the model can make; 1 makes a still image.
    #[arg(long)]
    num_frames: Option<u32>,
    /// Denoising steps.
    #[arg(long)]
    steps: Option<u32>,
    /// Scale of classifier-free guidance, 1 (none) to 20.
    #[arg(long)]
    guidance_scale: Option<f64>,
    /// Seed of the noise: the same seed makes the same video. Default: random.
    #[arg(short, long)]
    seed: Option<u64>,
    /// Priority, 0 (least urgent) to 9. Default: 5.
    #[arg(long, value_parser = priority)]
    priority: Option<Priority>,
    /// First frame, for image-to-video models: a PNG, JPEG or WebP file.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Last frame, for models that take one: a PNG, JPEG or WebP file. Only with --image.
    #[arg(long, value_name = "FILE", requires = "image")]
    last_image: Option<PathBuf>,
    /// Whether the video has sound, for models that make it. Default: true.
    #[arg(long, value_name = "true|false")]
    audio: Option<bool>,
    /// Make the video at half of its size first, then enlarge and refine it, for models that can.
    #[arg(long)]
    upscale: bool,
    /// Codec of the sound.
    #[arg(long, ignore_case = true, value_parser = choice(AudioFormat::ALL, AudioFormat::as_str))]
    audio_format: Option<AudioFormat>,
    /// Sound that the picture is made to, for models that take it: a WAV file, or an MP4 file with sound.
    #[arg(long, value_name = "FILE")]
    audio_input: Option<PathBuf>,
    /// A LoRA from `videosdgx loras`, with its scale after a colon if that is not 1; up to 4.
    #[arg(long = "lora", value_name = "NAME[:SCALE]", value_parser = lora)]
    loras: Vec<LoraChoice>,
    /// Codec of the video, or the format of a picture file with a single frame.
    #[arg(long, ignore_case = true, value_parser = choice(OutputFormat::ALL, OutputFormat::as_str))]
    format: Option<OutputFormat>,
    /// Scheduler (sampler).
    #[arg(long, ignore_case = true, value_parser = choice(SchedulerName::ALL, SchedulerName::as_str))]
    scheduler: Option<SchedulerName>,
}

impl SettingArgs {
    /// The request for `prompt`.
    pub(crate) fn into_request(self, prompt: String) -> Result<GenerateRequest, Failure> {
        Ok(GenerateRequest {
            prompt,
            negative_prompt: self.negative_prompt,
            duration: self.duration,
            fps: self.fps,
            resolution: self.resolution,
            num_frames: self.num_frames,
            steps: self.steps,
            guidance_scale: self.guidance_scale,
            seed: self.seed,
            priority: self.priority,
            loras: self.loras,
            image: self.image.as_deref().map(file).transpose()?,
            last_image: self.last_image.as_deref().map(file).transpose()?,
            audio: self.audio,
            audio_guidance_scale: None,
            stg_scale: None,
            modality_scale: None,
            guidance_rescale: None,
            upscale: self.upscale,
            audio_format: self.audio_format,
            audio_input: self.audio_input.as_deref().map(file).transpose()?,
            format: self.format,
            scheduler: self.scheduler,
        })
    }
}

/// The file in base64.
fn file(path: &Path) -> Result<String, Failure> {
    let cannot =
        |reason: String| Failure::new(Exit::Local, format!("cannot use {}: {reason}", path.display()));
    let size = std::fs::metadata(path).map_err(|error| cannot(error.to_string()))?.len();
    if size > MAX_FILE_BYTES {
        return Err(cannot(format!("it has {size} bytes, a file has at most {MAX_FILE_BYTES}")));
    }
    let bytes = std::fs::read(path).map_err(|error| cannot(error.to_string()))?;
    Ok(base64::engine::general_purpose::STANDARD.encode(bytes))
}

/// Parser of one of `all`, which the help lists by their names.
fn choice<T>(all: &'static [T], name: fn(T) -> &'static str) -> impl TypedValueParser<Value = T>
where
    T: Copy + Send + Sync + 'static,
{
    PossibleValuesParser::new(all.iter().map(|&value| name(value))).try_map(move |text| {
        let found = all.iter().copied().find(|&value| name(value).eq_ignore_ascii_case(&text));
        found.ok_or_else(|| format!("unknown name {text:?}"))
    })
}

fn priority(text: &str) -> Result<Priority, String> {
    text.parse().ok().and_then(Priority::new).ok_or_else(|| "a priority is 0 to 9".to_owned())
}

/// `name`, or `name:scale`. What follows the last colon is part of the name unless it is a number.
fn lora(text: &str) -> Result<LoraChoice, String> {
    let scaled = text.rsplit_once(':').and_then(|(name, scale)| Some((name, scale.parse().ok()?)));
    let (name, scale) = scaled.unwrap_or((text, 1.0));
    if name.is_empty() {
        return Err("a LoRA is written as name or name:scale".to_owned());
    }
    Ok(LoraChoice { name: name.to_owned(), scale })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lora_has_a_scale_after_its_last_colon() {
        let read = |text: &str| lora(text).map(|choice| (choice.name, choice.scale));
        assert_eq!(read("ink"), Ok(("ink".into(), 1.0)));
        assert_eq!(read("ink:-0.5"), Ok(("ink".into(), -0.5)));
        assert_eq!(read("ink: v2:1"), Ok(("ink: v2".into(), 1.0)));
        assert_eq!(read("ink:v2"), Ok(("ink:v2".into(), 1.0)));
        assert!(read(":1").is_err() && read("").is_err());
    }
}
