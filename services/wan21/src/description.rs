//! Defaults and limits of a checkpoint, as `/info` shows them.
//!
//! Wan 2.1 was trained on 81 frames at 16 per second (five seconds), at 832×480 and, the 14B models, 1280×720. Those
//! values are its defaults.

use videosdgx_api::{
    FrameRule, MAX_LORAS, ModelDescription, ModelLimits, OutputFormat, Resolution, SchedulerName, Support,
};
use videosdgx_diffusion::schedulers::SchedulerConfig;
use videosdgx_diffusion::{CheckpointFolder, Settings};
use videosdgx_tensor::CheckpointError;
use videosdgx_video::wan_vae::TEMPORAL_FACTOR;

use crate::memory::WanSizes;

/// Hidden size of the 14B models; the 1.3B has 1536.
const HIDDEN_14B: u64 = 5120;

/// One frame, then [`TEMPORAL_FACTOR`] frames for each further latent frame.
pub(crate) const FRAME_RULE: FrameRule = FrameRule { step: TEMPORAL_FACTOR as u32, offset: 1 };

/// Describes the checkpoint `folder` as `settings` load it.
///
/// # Errors
/// Names the configuration file that is missing or broken.
pub(crate) fn describe(
    service: &str,
    folder: &CheckpointFolder,
    sizes: &WanSizes,
    settings: &Settings,
) -> Result<ModelDescription, CheckpointError> {
    let scheduler = SchedulerConfig::read(&folder.path)?.name();
    let takes_image = folder.has("image_encoder");
    let defaults = match &folder.demonstration {
        Some(demonstration) => Defaults {
            resolution: Resolution {
                width: demonstration.defaults.width,
                height: demonstration.defaults.height,
            },
            num_frames: demonstration.defaults.frames,
            fps: demonstration.defaults.fps,
            steps: demonstration.defaults.steps,
            guidance_scale: demonstration.defaults.guidance,
            prompt: demonstration.defaults.prompt.clone(),
            max_side: 256,
            max_frames: 81,
            max_pixels: 128 * 128 * 33,
        },
        None => Defaults {
            resolution: Resolution { width: 832, height: 480 },
            num_frames: 81,
            fps: 16,
            steps: 50,
            guidance_scale: 5.0,
            prompt: "A cat walking on a beach at sunset".to_owned(),
            max_side: 1920,
            max_frames: 161,
            max_pixels: if sizes.hidden >= HIDDEN_14B { 1280 * 720 * 121 } else { 832 * 480 * 161 },
        },
    };
    let tasks: &[&str] = if takes_image { &["image-to-video"] } else { &["text-to-video", "text-to-image"] };
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
        default_scheduler: scheduler,
        default_format: OutputFormat::H264,
        example_prompt: defaults.prompt,
        limits: ModelLimits {
            size_multiple: 16,
            min_side: 16,
            max_side: defaults.max_side,
            frame_rule: FRAME_RULE,
            max_frames: defaults.max_frames,
            max_pixels: defaults.max_pixels,
            max_steps: 200,
            max_prompt_characters: 1000,
            max_duration_seconds: 60,
            image: if takes_image { Support::Required } else { Support::Unsupported },
            last_image: Support::Unsupported,
            audio: Support::Unsupported,
            audio_input: Support::Unsupported,
            guidances: Support::Unsupported,
            upscale: Support::Unsupported,
            max_loras: MAX_LORAS,
            schedulers: SchedulerName::ALL.to_vec(),
            formats: OutputFormat::ALL.to_vec(),
        },
    })
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
