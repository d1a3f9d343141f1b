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
