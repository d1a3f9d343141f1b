//! Checks a request against the limits and abilities of a model's description. Each refusal names the field and the
//! limit.

use videosdgx_api::{
    AudioFormat, GenerateRequest, GenerationSettings, ModelDescription, ModelLimits, Problem, Resolution,
    ResolvedRequest, Support,
};

use crate::{lora_limits, picture_input, sound_input};

/// Maximum number of frames per second of a file.
pub const MAX_FPS: u32 = 60;
/// Largest scale of classifier-free guidance.
pub const MAX_GUIDANCE: f64 = 20.0;

/// Fills in the defaults of `model` and checks its limits. `warnings` is empty: the engine adds its own.
///
/// # Errors
/// The first problem, with field and limit.
pub fn resolve(request: &GenerateRequest, model: &ModelDescription) -> Result<ResolvedRequest, Problem> {
    let limits = &model.limits;
    let mut settings = request.clone().into_settings(model);
    check_text("prompt", &settings.prompt, limits)?;
    if settings.prompt.chars().all(is_invisible) {
        return Err(
            Problem::field("prompt", "the prompt is empty; describe what the video shows").with_limit(1)
        );
    }
    check_text("negative_prompt", &settings.negative_prompt, limits)?;
    check_range("fps", settings.fps, 1, MAX_FPS)?;
    check_range("steps", settings.steps, 1, limits.max_steps)?;
    if !(1.0..=MAX_GUIDANCE).contains(&settings.guidance_scale) {
        return Err(Problem::field("guidance_scale", format!("guidance_scale is 1 to {MAX_GUIDANCE}"))
            .with_limit(MAX_GUIDANCE));
    }
    settings.num_frames = frames(request, model, settings.fps)?;
    check_size(settings.resolution, limits)?;
    check_volume(request, &settings, limits)?;
    let schedulers = limits.schedulers.iter().map(|scheduler| scheduler.as_str());
    check_choice("scheduler", settings.scheduler.as_str(), schedulers)?;
    let formats = limits.formats.iter().map(|format| format.as_str());
    check_choice("format", settings.format.as_str(), formats)?;
    check_guidances(&settings, limits.guidances)?;
    check_support("upscale", settings.upscale, limits.upscale)?;
    lora_limits::check(&settings.loras, limits.max_loras)?;
    if settings.format.is_picture() && settings.num_frames != 1 {
        let detail = format!(
            "{} is for a single frame, not for {}; send num_frames 1 or another format",
            settings.format.as_str(),
            settings.num_frames
        );
        return Err(Problem::field("format", detail).with_limit(1));
    }
    check_pictures(&mut settings, limits)?;
    check_sound(request, &mut settings, limits)?;
    let mut sent = request.without_attachments();
    // A seed that was drawn stays the same, whichever checkpoint runs the request.
    sent.seed = Some(settings.seed);
    Ok(ResolvedRequest {
        settings,
        checkpoint: model.checkpoint.clone(),
        fingerprint: Some(model.fingerprint.clone()),
        request: Some(Box::new(sent)),
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

/// White space, control characters, and characters without width (Unicode's `Default_Ignorable_Code_Point`).
fn is_invisible(letter: char) -> bool {
    letter.is_whitespace()
        || letter.is_control()
        || matches!(letter,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
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
        (None, None) => match request.format {
            Some(format) if format.is_picture() && limits.frame_rule.allows(1) => Ok(1),
            _ => Ok(model.default_num_frames),
        },
        (Some(frames), None) => {
            check_range("num_frames", frames, limits.frame_rule.smallest(), limits.max_frames)?;
            let rule = limits.frame_rule;
            if !rule.allows(frames) {
                let detail =
                    format!("num_frames is {rule}, for example {}, not {frames}", rule.at_most(frames));
                return Err(Problem::field("num_frames", detail).with_limit(rule.to_string()));
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
            let frames = limits.frame_rule.nearest(seconds * f64::from(fps));
            if frames > limits.max_frames {
                let longest = f64::from(limits.max_frames) / f64::from(fps);
                return Err(Problem::field(
                    "duration",
                    format!(
                        "{seconds} seconds at {fps} frames per second are {frames} frames; this checkpoint makes at most \
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
    settings: &GenerationSettings,
    limits: &ModelLimits,
) -> Result<(), Problem> {
    let GenerationSettings { resolution, num_frames, .. } = *settings;
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

fn check_pictures(settings: &mut GenerationSettings, limits: &ModelLimits) -> Result<(), Problem> {
    use picture_input::{FIRST_FRAME, LAST_FRAME};

    check_support(FIRST_FRAME, settings.image.is_some(), limits.image)?;
    check_support(LAST_FRAME, settings.last_image.is_some(), limits.last_image)?;
    if settings.last_image.is_some() {
        if settings.image.is_none() {
            let detail = "a last frame needs a first one: send image too";
            return Err(Problem::field(LAST_FRAME, detail).with_limit(FIRST_FRAME));
        }
        if settings.num_frames < 2 {
            let detail = "a single frame has no last one; leave last_image out or send more frames";
            return Err(Problem::field(LAST_FRAME, detail).with_limit(2));
        }
    }
    for (field, image) in [(FIRST_FRAME, &mut settings.image), (LAST_FRAME, &mut settings.last_image)] {
        if let Some(image) = image {
            *image = picture_input::checked(field, image)?;
        }
    }
    Ok(())
}

/// Checks what is wanted and given as sound, and fills in the codec.
fn check_sound(
    request: &GenerateRequest,
    settings: &mut GenerationSettings,
    limits: &ModelLimits,
) -> Result<(), Problem> {
    if settings.format.is_picture() {
        if request.audio == Some(true) {
            let format = settings.format.as_str();
            let detail = format!("a {format} file has no sound; leave audio out or choose another format");
            return Err(Problem::field("audio", detail).with_limit("none"));
        }
        settings.audio = false;
    }
    match (request.audio, limits.audio) {
        (Some(true), Support::Unsupported) => {
            let detail = "this checkpoint makes no sound; leave audio out or send false";
            return Err(Problem::field("audio", detail).with_limit("none"));
        }
        (Some(false), Support::Required) => {
            let detail = "this checkpoint always makes sound; leave audio out or send true";
            return Err(Problem::field("audio", detail).with_limit("required"));
        }
        _ => {}
    }
    if !settings.audio && settings.audio_format.is_some() {
        let detail = "the video has no sound; leave audio_format out";
        return Err(Problem::field("audio_format", detail).with_limit("none"));
    }
    check_support("audio_input", settings.audio_input.is_some(), limits.audio_input)?;
    if let Some(sound) = &settings.audio_input {
        if !settings.audio {
            let detail = "given sound is the video's sound; leave audio out or send true";
            return Err(Problem::field("audio_input", detail));
        }
        settings.audio_input = Some(sound_input::checked(sound, settings.duration())?);
    }
    if settings.audio {
        settings.audio_format.get_or_insert(AudioFormat::default());
    }
    Ok(())
}

fn check_choice<'a>(
    field: &str,
    choice: &str,
    possible: impl Iterator<Item = &'a str>,
) -> Result<(), Problem> {
    let possible: Vec<&str> = possible.collect();
    if possible.contains(&choice) {
        return Ok(());
    }
    let detail = format!("this checkpoint's {field} is {}, not {choice}", possible.join(" or "));
    Err(Problem::field(field, detail).with_limit(possible))
}

/// Fields of guidances, with their smallest and largest values.
fn check_guidances(settings: &GenerationSettings, support: Support) -> Result<(), Problem> {
    for (field, value, least, most) in [
        ("audio_guidance_scale", settings.audio_guidance_scale, 1.0, MAX_GUIDANCE),
        ("stg_scale", settings.stg_scale, 0.0, 10.0),
        ("modality_scale", settings.modality_scale, 1.0, 10.0),
        ("guidance_rescale", settings.guidance_rescale, 0.0, 1.0),
    ] {
        check_support(field, value.is_some(), support)?;
        if value.is_some_and(|value| !(least..=most).contains(&value)) {
            return Err(Problem::field(field, format!("{field} is {least} to {most}")).with_limit(most));
        }
    }
    Ok(())
}

fn check_support(field: &str, is_present: bool, support: Support) -> Result<(), Problem> {
    match (is_present, support) {
        (false, Support::Required) => {
            Err(Problem::field(field, format!("this checkpoint requires {field}")).with_limit("required"))
        }
        (true, Support::Unsupported) => {
            let detail = format!("this checkpoint does not use {field}; leave it out");
            Err(Problem::field(field, detail).with_limit("none"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
