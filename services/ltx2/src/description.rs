//! Defaults and limits of a checkpoint, as `/info` shows them.
//!
//! LTX-2's defaults are those of its authors' pipelines: 121 frames at 24 per second (five seconds), 768×512.

use videosdgx_api::{
    FrameRule, MAX_LORAS, ModelDescription, ModelLimits, OutputFormat, Resolution, SchedulerName, Support,
};
use videosdgx_diffusion::{CheckpointFolder, Settings};
use videosdgx_tensor::CheckpointError;

use crate::configuration::Ltx2Configuration;
use crate::pipeline::sampling::{DISTILLED_SIGMAS, Form};

/// Longest video in seconds: the positions of the transformer reach no further.
const MAX_SECONDS: u32 = 20;

/// Describes the checkpoint `folder` as `settings` load it.
///
/// # Errors
/// Names the configuration file that is missing or broken.
pub(crate) fn describe(
    service: &str,
    folder: &CheckpointFolder,
    configuration: &Ltx2Configuration,
    settings: &Settings,
) -> Result<ModelDescription, CheckpointError> {
    let defaults = Defaults::of(folder, configuration);
    let vae = &configuration.vae;
    let side = |length: i64| u32::try_from(length).unwrap_or(32);
    let tasks = ["text-to-video", "image-to-video", "audio-to-video"];
    Ok(ModelDescription {
        name: service.to_owned(),
        checkpoint: folder.name.clone(),
        fingerprint: folder.fingerprint.clone(),
        architecture: folder.architecture.clone(),
        demonstration: folder.demonstration.is_some(),
        tasks: tasks.iter().map(|&task| task.to_owned()).collect(),
        device: settings.device.name(),
        device_reason: settings.device.reason.clone(),
        dtype: settings.dtype_name().to_owned(),
        quantization: settings.quantization.to_string(),
        parameters: folder.parameters(),
        default_resolution: defaults.resolution,
        default_num_frames: defaults.num_frames,
        default_fps: defaults.fps,
        default_steps: defaults.steps,
        default_guidance_scale: defaults.guidance_scale,
        default_scheduler: configuration.scheduler.name(),
        default_format: OutputFormat::H264,
        example_prompt: defaults.prompt,
        limits: ModelLimits {
            size_multiple: side(vae.spatial_factor()).max(32),
            min_side: side(vae.spatial_factor()).max(32),
            max_side: defaults.max_side,
            frame_rule: FrameRule { step: side(vae.temporal_factor()), offset: 1 },
            max_frames: defaults.max_frames,
            max_pixels: defaults.max_pixels,
            max_steps: 200,
            max_prompt_characters: 10_000,
            max_duration_seconds: MAX_SECONDS,
            image: Support::Optional,
            last_image: Support::Optional,
            audio: Support::Optional,
            audio_input: Support::Optional,
            guidances: Support::Optional,
            upscale: support_of(configuration.upsampler.is_some()),
            max_loras: MAX_LORAS,
            schedulers: vec![SchedulerName::Euler, SchedulerName::EulerAncestral],
            formats: OutputFormat::ALL.to_vec(),
        },
    })
}

fn support_of(is_there: bool) -> Support {
    if is_there { Support::Optional } else { Support::Unsupported }
}

struct Defaults {
    resolution: Resolution,
    num_frames: u32,
    fps: u32,
    steps: u32,
    guidance_scale: f64,
    prompt: String,
    max_side: u32,
    max_frames: u32,
    max_pixels: u64,
}

impl Defaults {
    fn of(folder: &CheckpointFolder, configuration: &Ltx2Configuration) -> Self {
        if let Some(demonstration) = &folder.demonstration {
            let defaults = &demonstration.defaults;
            return Self {
                resolution: Resolution { width: defaults.width, height: defaults.height },
                num_frames: defaults.frames,
                fps: defaults.fps,
                steps: defaults.steps,
                guidance_scale: defaults.guidance,
                prompt: defaults.prompt.clone(),
                max_side: 256,
                max_frames: 81,
                max_pixels: 128 * 128 * 33,
            };
        }
        let (steps, guidance_scale) = match configuration.form(false) {
            Form::Distilled => (DISTILLED_SIGMAS.len() as u32, 1.0),
            // LTX-2.0 takes more steps than its successors.
            _ if configuration.transformer.use_prompt_embeddings => (40, 3.0),
            _ => (30, 3.0),
        };
        Self {
            resolution: Resolution { width: 768, height: 512 },
            num_frames: 121,
            fps: 24,
            steps,
            guidance_scale,
            prompt: "A woman plays the piano in a sunlit room while rain taps on the window".to_owned(),
            max_side: 3840,
            max_frames: 481,
            max_pixels: 1920 * 1088 * 257,
        }
    }
}
