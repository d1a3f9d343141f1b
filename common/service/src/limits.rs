//! Every limit that all video models share, checked in one place. Each refusal names the field and the limit.

use videosdgx_api::{GenerateRequest, ModelDescription, ModelLimits, Problem, Resolution, ResolvedRequest};

use crate::first_frame;

/// Most frames a second of a file.
pub const MAX_FPS: u32 = 60;
/// Strongest classifier-free guidance.
pub const MAX_GUIDANCE: f64 = 20.0;

/// Fills in the defaults of `model` and checks its limits. `warnings` is empty: the engine adds its own.
///
/// # Errors
/// The first problem, with field and limit.
pub fn resolve(request: &GenerateRequest, model: &ModelDescription) -> Result<ResolvedRequest, Problem> {
    let limits = &model.limits;
    check_text("prompt", &request.prompt, limits)?;
    if request.prompt.trim().is_empty() {
        return Err(Problem::field("prompt", "the prompt is empty; say what the video shows").with_limit(1));
    }
    let negative_prompt = request.negative_prompt.clone().unwrap_or_default();
    check_text("negative_prompt", &negative_prompt, limits)?;

    let fps = request.fps.unwrap_or(model.default_fps);
    check_range("fps", fps, 1, MAX_FPS)?;
    let steps = request.steps.unwrap_or(model.default_steps);
    check_range("steps", steps, 1, limits.max_steps)?;
    let guidance_scale = request.guidance_scale.unwrap_or(model.default_guidance_scale);
    if !(1.0..=MAX_GUIDANCE).contains(&guidance_scale) {
        return Err(Problem::field("guidance_scale", format!("guidance_scale is 1 to {MAX_GUIDANCE}"))
            .with_limit(MAX_GUIDANCE));
    }
    let num_frames = frames(request, model, fps)?;
    let resolution = request.resolution.unwrap_or(model.default_resolution);
    check_size(resolution, limits)?;
    check_volume(request, resolution, num_frames, limits)?;
    Ok(ResolvedRequest {
        prompt: request.prompt.clone(),
        negative_prompt,
        resolution,
        num_frames,
        fps,
        steps,
        guidance_scale,
        seed: request.seed.unwrap_or_else(random_seed),
        format: request.format.unwrap_or(model.default_format),
        scheduler: request.scheduler.unwrap_or(model.default_scheduler),
        image: image(request, limits)?,
        checkpoint: model.checkpoint.clone(),
        warnings: Vec::new(),
    })
}

fn check_text(field: &str, text: &str, limits: &ModelLimits) -> Result<(), Problem> {
    let most = limits.max_prompt_characters;
    if text.chars().count() > most as usize {
        return Err(
            Problem::field(field, format!("the {field} has at most {most} characters")).with_limit(most)
        );
    }
    Ok(())
}

fn check_range(field: &str, value: u32, least: u32, most: u32) -> Result<(), Problem> {
    let broken = if value < least {
        least
    } else if value > most {
        most
    } else {
        return Ok(());
    };
    Err(Problem::field(field, format!("{field} is {least} to {most}, not {value}")).with_limit(broken))
}

fn frames(request: &GenerateRequest, model: &ModelDescription, fps: u32) -> Result<u32, Problem> {
    let limits = &model.limits;
    match (request.num_frames, request.duration) {
        (Some(_), Some(_)) => Err(Problem::field("num_frames", "send duration or num_frames, not both")),
        (None, None) => Ok(model.default_num_frames),
        (Some(frames), None) => {
            check_range("num_frames", frames, 1, limits.max_frames)?;
            if frames % 4 != 1 {
                let below = frames.saturating_sub(2) / 4 * 4 + 1;
                return Err(Problem::field(
                    "num_frames",
                    format!("num_frames is 4k+1, for example {below}, not {frames}"),
                )
                .with_limit("4k+1"));
            }
            Ok(frames)
        }
        (None, Some(seconds)) => {
            let most = limits.max_duration_seconds;
            if !(seconds > 0.0 && seconds <= f64::from(most)) {
                return Err(Problem::field(
                    "duration",
                    format!("duration is more than 0 and at most {most} seconds"),
                )
                .with_limit(most));
            }
            let frames = nearest_frames(seconds, fps);
            if frames > limits.max_frames {
                let longest = f64::from(limits.max_frames) / f64::from(fps);
                return Err(Problem::field(
                    "duration",
                    format!(
                        "{seconds} seconds at {fps} frames a second are {frames} frames; this checkpoint makes at most \
                         {} ({longest:.2} seconds); shorten duration or lower fps",
                        limits.max_frames
                    ),
                )
                .with_limit(longest));
            }
            Ok(frames)
        }
    }
}

/// The number of frames 4k+1 nearest to `seconds` at `fps`, at least 1.
#[must_use]
pub fn nearest_frames(seconds: f64, fps: u32) -> u32 {
    let groups = ((seconds * f64::from(fps) - 1.0) / 4.0).round().max(0.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at most 60 s at 60 frames a second when called from here; `as` saturates for others"
    )]
    let groups = groups as u32;
    groups.saturating_mul(4).saturating_add(1)
}

fn check_size(resolution: Resolution, limits: &ModelLimits) -> Result<(), Problem> {
    let refuse = |detail: String, limit: u32| Err(Problem::field("resolution", detail).with_limit(limit));
    for (name, side) in [("width", resolution.width), ("height", resolution.height)] {
        let (least, most, multiple) = (limits.min_side, limits.max_side, limits.size_multiple);
        if side < least {
            return refuse(format!("the {name} is {least} to {most} pixels, not {side}"), least);
        }
        if side > most {
            return refuse(format!("the {name} is {least} to {most} pixels, not {side}"), most);
        }
        if side % multiple.max(1) != 0 {
            return refuse(format!("the {name} is a multiple of {multiple}, not {side}"), multiple);
        }
    }
    Ok(())
}

fn check_volume(
    request: &GenerateRequest,
    resolution: Resolution,
    num_frames: u32,
    limits: &ModelLimits,
) -> Result<(), Problem> {
    let pixels = u64::from(resolution.width) * u64::from(resolution.height) * u64::from(num_frames);
    if pixels <= limits.max_pixels {
        return Ok(());
    }
    let field = if request.resolution.is_some() {
        "resolution"
    } else if request.num_frames.is_some() {
        "num_frames"
    } else {
        "duration"
    };
    Err(Problem::field(
        field,
        format!(
            "{resolution} × {num_frames} frames are {pixels} pixels; this checkpoint makes at most {}; choose a smaller \
             resolution or fewer frames",
            limits.max_pixels
        ),
    )
    .with_limit(limits.max_pixels))
}

fn image(request: &GenerateRequest, limits: &ModelLimits) -> Result<Option<String>, Problem> {
    match (&request.image, limits.image.as_str()) {
        (None, "required") => {
            Err(Problem::field("image", "this checkpoint animates a picture; send one as image"))
        }
        (Some(_), "none") => {
            Err(Problem::field("image", "this checkpoint takes no image; leave it out").with_limit("none"))
        }
        (None, _) => Ok(None),
        (Some(image), _) => first_frame::checked(image).map(Some),
    }
}

/// 53 random bits, so that every JSON reader keeps the seed exactly.
fn random_seed() -> u64 {
    // Bits 12–15 of the high half hold the version, the top two of the low half the variant.
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    (high >> 16 << 5) | (low & 31)
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
