//! Defaults and limits of a checkpoint, as `/info` shows them.
//!
//! Wan 2.1 was trained on 81 frames at 16 a second (five seconds), at 832×480 and, the 14B models, 1280×720. Those replace
//! the platform's general defaults (1024×576 at 24 frames a second), for which it was not made.

use tch::{Device, Kind};
use videosdgx_api::{ModelDescription, ModelLimits, OutputFormat, Resolution, SchedulerName};
use videosdgx_tensor::Quantization;

use crate::folder::CheckpointFolder;

/// Hidden size of the 14B models; the 1.3B has 1536.
const HIDDEN_14B: u64 = 5120;

/// Describes `folder` served on `device` in `kind`.
#[must_use]
pub(crate) fn describe(
    service: &str,
    folder: &CheckpointFolder,
    device: Device,
    kind: Kind,
    quantization: Quantization,
) -> ModelDescription {
    let takes_image = folder.image_encoder.is_some();
    let defaults = match &folder.manifest {
        Some(manifest) => Defaults {
            resolution: Resolution { width: manifest.defaults.width, height: manifest.defaults.height },
            num_frames: manifest.defaults.frames,
            fps: manifest.defaults.fps,
            steps: manifest.defaults.steps,
            guidance_scale: manifest.defaults.guidance,
            prompt: manifest.defaults.prompt.clone(),
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
            max_pixels: if folder.hidden >= HIDDEN_14B { 1280 * 720 * 121 } else { 832 * 480 * 161 },
        },
    };
    let tasks: &[&str] = if takes_image { &["image-to-video"] } else { &["text-to-video", "text-to-image"] };
    ModelDescription {
        name: service.to_owned(),
        checkpoint: folder.name.clone(),
        architecture: folder.architecture.clone(),
        demonstration: folder.manifest.is_some(),
        tasks: tasks.iter().map(|&task| task.to_owned()).collect(),
        device: device_name(device),
        dtype: kind_name(kind).to_owned(),
        quantization: quantization.to_string(),
        parameters: folder.parameters(),
        default_resolution: defaults.resolution,
        default_num_frames: defaults.num_frames,
        default_fps: defaults.fps,
        default_steps: defaults.steps,
        default_guidance_scale: defaults.guidance_scale,
        default_scheduler: SchedulerName::Unipc,
        default_format: OutputFormat::H264,
        example_prompt: defaults.prompt,
        limits: ModelLimits {
            size_multiple: 16,
            min_side: 16,
            max_side: defaults.max_side,
            max_frames: defaults.max_frames,
            max_pixels: defaults.max_pixels,
            max_steps: 200,
            max_prompt_characters: 1000,
            max_duration_seconds: 60,
            image: if takes_image { "required" } else { "none" }.to_owned(),
        },
    }
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

fn device_name(device: Device) -> String {
    match device {
        Device::Cpu => "cpu".to_owned(),
        Device::Cuda(index) => format!("cuda:{index}"),
        Device::Mps => "mps".to_owned(),
        Device::Vulkan => "vulkan".to_owned(),
    }
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::BFloat16 => "bf16",
        Kind::Half => "f16",
        _ => "f32",
    }
}
