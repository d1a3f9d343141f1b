use serde_json::{Value, json};
use videosdgx_api::{FrameRule, OutputFormat, SchedulerName};

use super::*;

fn model() -> ModelDescription {
    ModelDescription {
        name: "fake".into(),
        checkpoint: "tiny".into(),
        fingerprint: "1".into(),
        architecture: "Fake".into(),
        demonstration: true,
        tasks: vec!["text-to-video".into()],
        device: "cpu".into(),
        device_reason: "as configured".into(),
        dtype: "f32".into(),
        quantization: "none".into(),
        parameters: 1,
        default_resolution: Resolution { width: 64, height: 48 },
        default_num_frames: 17,
        default_fps: 8,
        default_steps: 20,
        default_guidance_scale: 3.0,
        default_scheduler: SchedulerName::Unipc,
        default_format: OutputFormat::H264,
        example_prompt: "a cat".into(),
        limits: ModelLimits {
            size_multiple: 16,
            min_side: 32,
            max_side: 128,
            frame_rule: FrameRule { step: 4, offset: 1 },
            max_frames: 33,
            max_pixels: 128 * 128 * 17,
            max_steps: 50,
            max_prompt_characters: 1000,
            max_duration_seconds: 60,
            image: Support::Unsupported,
            last_image: Support::Unsupported,
            audio: Support::Unsupported,
            audio_input: Support::Unsupported,
            guidances: Support::Unsupported,
            upscale: Support::Unsupported,
            max_loras: 2,
            schedulers: vec![SchedulerName::Unipc],
            formats: vec![OutputFormat::H264],
        },
    }
}

fn with(changes: Value) -> GenerateRequest {
    let mut request = json!({"prompt": "a red circle"});
    request.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    serde_json::from_value(request).unwrap()
}

#[test]
fn a_prompt_alone_takes_the_checkpoints_defaults() {
    let resolved = resolve(&with(json!({})), &model()).unwrap();
    let settings = resolved.settings;
    assert_eq!(settings.resolution, Resolution { width: 64, height: 48 });
    assert_eq!((settings.num_frames, settings.fps, settings.steps), (17, 8, 20));
    assert_eq!(resolved.checkpoint, "tiny");
    assert!(settings.seed < 1 << 53);
    let again = resolve(&with(json!({})), &model()).unwrap();
    assert_ne!(again.settings.seed, settings.seed, "a seed that was not sent is drawn");
    assert_eq!(resolve(&with(json!({"seed": u64::MAX})), &model()).unwrap().settings.seed, u64::MAX);
}

#[test]
fn durations_become_the_nearest_possible_number_of_frames() {
    let mut model = model();
    (model.limits.max_frames, model.limits.max_pixels) = (4000, u64::MAX);
    for (seconds, fps, step, frames) in [
        (2.0, 8, 4, 17),
        (0.001, 8, 4, 1),
        (5.0, 24, 4, 121),
        (5.0, 16, 4, 81),
        (60.0, 60, 4, 3601),
        (1.0, 1, 4, 1),
        (2.0, 8, 8, 17),
        (5.0, 24, 8, 121),
        (2.5, 8, 8, 17),
    ] {
        model.limits.frame_rule = FrameRule { step, offset: 1 };
        let resolved = resolve(&with(json!({"duration": seconds, "fps": fps})), &model).unwrap();
        assert_eq!(resolved.settings.num_frames, frames, "{seconds} s at {fps}, {step}k+1");
    }
}

#[test]
fn another_models_rules_are_followed() {
    let mut model = model();
    let limits = &mut model.limits;
    limits.frame_rule = FrameRule { step: 8, offset: 1 };
    limits.size_multiple = 32;
    limits.schedulers = vec![SchedulerName::Euler];
    limits.image = Support::Optional;
    model.default_scheduler = SchedulerName::Euler;
    model.default_resolution = Resolution { width: 64, height: 64 };
    for (changes, field, limit) in [
        (json!({"num_frames": 13}), "num_frames", json!("8k+1")),
        (json!({"resolution": "48x64"}), "resolution", json!(32)),
        (json!({"scheduler": "unipc"}), "scheduler", json!(["euler"])),
    ] {
        let problem = resolve(&with(changes.clone()), &model).unwrap_err();
        assert_eq!((problem.field.as_deref(), problem.limit), (Some(field), Some(limit)), "{changes}");
    }
    let detail = resolve(&with(json!({"num_frames": 16})), &model).unwrap_err().detail;
    assert_eq!(detail, "num_frames is 8k+1, for example 9, not 16");
    assert!(resolve(&with(json!({"num_frames": 25, "resolution": "96x64"})), &model).is_ok());
    let problem = resolve(&with(json!({"image": "aGk="})), &model).unwrap_err();
    assert_eq!(problem.detail, "the image must be a PNG, JPEG or WebP file");
}

#[test]
fn each_limit_is_named_with_its_field() {
    let long = "x".repeat(1001);
    let cases = [
        (json!({"prompt": ""}), "prompt", json!(1)),
        (json!({"prompt": " \t\n"}), "prompt", json!(1)),
        (json!({"prompt": "\0\u{7}\u{1b}"}), "prompt", json!(1)),
        (json!({"prompt": "\u{200b} \u{200d}\u{2060}\u{feff}\u{ad}\u{fe0f}\u{e0001}"}), "prompt", json!(1)),
        (json!({"prompt": long}), "prompt", json!(1000)),
        (json!({"negative_prompt": long}), "negative_prompt", json!(1000)),
        (json!({"duration": 0.0}), "duration", json!(60)),
        (json!({"duration": -1.0}), "duration", json!(60)),
        (json!({"duration": 60.5}), "duration", json!(60)),
        (json!({"duration": 5.0}), "duration", json!(4.125)),
        (json!({"fps": 0}), "fps", json!(1)),
        (json!({"fps": 61}), "fps", json!(60)),
        (json!({"guidance_scale": 0.9}), "guidance_scale", json!(20.0)),
        (json!({"guidance_scale": 20.1}), "guidance_scale", json!(20.0)),
        (json!({"steps": 0}), "steps", json!(1)),
        (json!({"steps": 51}), "steps", json!(50)),
        (json!({"num_frames": 0}), "num_frames", json!(1)),
        (json!({"num_frames": 16}), "num_frames", json!("4k+1")),
        (json!({"num_frames": 37}), "num_frames", json!(33)),
        (json!({"resolution": "65x64"}), "resolution", json!(16)),
        (json!({"resolution": "64x16"}), "resolution", json!(32)),
        (json!({"resolution": "64x144"}), "resolution", json!(128)),
        (json!({"resolution": "128x128", "num_frames": 21}), "resolution", json!(128 * 128 * 17)),
        (json!({"image": "aGk="}), "image", json!("none")),
        (json!({"last_image": "aGk="}), "last_image", json!("none")),
        (json!({"audio": true}), "audio", json!("none")),
        (json!({"audio_format": "opus"}), "audio_format", json!("none")),
        (json!({"audio_input": "aGk="}), "audio_input", json!("none")),
        (json!({"stg_scale": 1.0}), "stg_scale", json!("none")),
        (json!({"upscale": true}), "upscale", json!("none")),
        (json!({"scheduler": "euler"}), "scheduler", json!(["unipc"])),
        (json!({"format": "av1"}), "format", json!(["h264"])),
    ];
    for (changes, field, limit) in cases {
        let problem = resolve(&with(changes.clone()), &model()).unwrap_err();
        assert_eq!(problem.field.as_deref(), Some(field), "{changes}");
        assert_eq!(problem.limit, Some(limit), "{changes}");
        assert_eq!(problem.status, 400, "{changes}");
    }
    let both = resolve(&with(json!({"duration": 1.0, "num_frames": 5})), &model()).unwrap_err();
    assert_eq!(both.field.as_deref(), Some("num_frames"));
}

#[test]
fn prompts_are_counted_in_characters_not_bytes() {
    assert!(resolve(&with(json!({"prompt": "ü".repeat(1000)})), &model()).is_ok());
    assert!(resolve(&with(json!({"prompt": "\u{200b}a\0"})), &model()).is_ok());
}

#[test]
fn a_required_image_must_be_sent() {
    let mut model = model();
    model.limits.image = Support::Required;
    let problem = resolve(&with(json!({})), &model).unwrap_err();
    assert_eq!(problem.field.as_deref(), Some("image"));
    let problem = resolve(&with(json!({"image": "aGk="})), &model).unwrap_err();
    assert_eq!(problem.detail, "the image must be a PNG, JPEG or WebP file");
}

/// A model that can make sound and take every input.
fn able() -> ModelDescription {
    let mut model = model();
    let limits = &mut model.limits;
    for support in [
        &mut limits.image,
        &mut limits.last_image,
        &mut limits.audio,
        &mut limits.audio_input,
        &mut limits.guidances,
        &mut limits.upscale,
    ] {
        *support = Support::Optional;
    }
    model
}

#[test]
fn sound_is_made_where_the_model_can_and_the_request_does_not_refuse_it() {
    use videosdgx_api::AudioFormat::{Flac, Opus};

    let of = |model: &ModelDescription, changes: Value| {
        let settings = resolve(&with(changes), model).unwrap().settings;
        (settings.audio, settings.audio_format)
    };
    assert_eq!(of(&able(), json!({})), (true, Some(Opus)));
    assert_eq!(of(&able(), json!({"audio": true, "audio_format": "flac"})), (true, Some(Flac)));
    assert_eq!(of(&able(), json!({"audio": false})), (false, None));
    assert_eq!(of(&model(), json!({})), (false, None));
    assert_eq!(of(&model(), json!({"audio": false})), (false, None));
    let mut always = able();
    always.limits.audio = Support::Required;
    let problem = resolve(&with(json!({"audio": false})), &always).unwrap_err();
    assert_eq!((problem.field.as_deref(), problem.limit), (Some("audio"), Some(json!("required"))));
}

#[test]
fn guidances_have_limits() {
    let valid = json!({"audio_guidance_scale": 7, "stg_scale": 0, "modality_scale": 1, "guidance_rescale": 1, "upscale": true});
    let settings = resolve(&with(valid), &able()).unwrap().settings;
    assert_eq!(
        (settings.audio_guidance_scale, settings.stg_scale, settings.upscale),
        (Some(7.0), Some(0.0), true)
    );
    for (changes, field, limit) in [
        (json!({"audio_guidance_scale": 0.5}), "audio_guidance_scale", json!(20.0)),
        (json!({"stg_scale": -1}), "stg_scale", json!(10.0)),
        (json!({"modality_scale": 0}), "modality_scale", json!(10.0)),
        (json!({"guidance_rescale": 1.5}), "guidance_rescale", json!(1.0)),
    ] {
        let problem = resolve(&with(changes.clone()), &able()).unwrap_err();
        assert_eq!((problem.field.as_deref(), problem.limit), (Some(field), Some(limit)), "{changes}");
    }
}

#[test]
fn inputs_that_contradict_each_other_are_refused_by_name() {
    for (changes, field, word) in [
        (json!({"last_image": "aGk="}), "last_image", "send image too"),
        (json!({"image": "aGk=", "last_image": "aGk=", "num_frames": 1}), "last_image", "single frame"),
        (json!({"image": "aGk=", "last_image": "aGk="}), "image", "PNG, JPEG or WebP"),
        (json!({"audio": false, "audio_format": "flac"}), "audio_format", "no sound"),
        (json!({"audio": false, "audio_input": "aGk="}), "audio_input", "leave audio out"),
        (json!({"audio_input": "aGk="}), "audio_input", "WAV file or an MP4 file"),
    ] {
        let problem = resolve(&with(changes.clone()), &able()).unwrap_err();
        assert_eq!((problem.status, problem.field.as_deref()), (400, Some(field)), "{changes}");
        assert!(problem.detail.contains(word), "{changes}: {}", problem.detail);
    }
}

#[test]
fn picture_files_have_one_frame_and_no_sound() {
    let mut model = able();
    model.limits.formats = OutputFormat::ALL.to_vec();
    for format in ["png", "webp"] {
        for changes in [json!({"format": format}), json!({"format": format, "num_frames": 1, "audio": false})]
        {
            let settings = resolve(&with(changes.clone()), &model).unwrap().settings;
            assert_eq!((settings.num_frames, settings.audio), (1, false), "{changes}");
        }
        for (changes, field) in [
            (json!({"format": format, "num_frames": 5}), "format"),
            (json!({"format": format, "duration": 2.0}), "format"),
            (json!({"format": format, "audio": true}), "audio"),
            (json!({"format": format, "audio_format": "opus"}), "audio_format"),
        ] {
            let problem = resolve(&with(changes.clone()), &model).unwrap_err();
            assert_eq!((problem.status, problem.field.as_deref()), (400, Some(field)), "{changes}");
        }
    }
    // A model that cannot make a single frame.
    model.limits.frame_rule = FrameRule { step: 4, offset: 5 };
    let problem = resolve(&with(json!({"format": "png"})), &model).unwrap_err();
    assert_eq!(problem.field.as_deref(), Some("format"));
}
