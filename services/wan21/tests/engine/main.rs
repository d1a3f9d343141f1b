//! The engine on a checkpoint folder: what it describes, and what it does when files change.

#[path = "../../../../tests/fixtures/golden.rs"]
#[expect(dead_code, reason = "this test needs only the folder")]
mod golden;
mod loras;

#[path = "../../../../tests/fixtures/formats.rs"]
mod formats;

use std::path::Path;

use tempfile::TempDir;
use videosdgx_api::{GenerateRequest, SchedulerName, Stage};
use videosdgx_diffusion::Settings;
use videosdgx_service::{Engine, EngineError, GenerateContext, Interrupt};
use videosdgx_tensor::{ChosenDevice, Kind, Quantization};
use wan21::WanEngine;

/// The fixture's checkpoint as a folder of its own, with its scheduler replaced if `scheduler` is given.
fn checkpoint(scheduler: Option<&str>) -> TempDir {
    let copy = tempfile::tempdir().expect("temporary folder");
    for part in ["model_index.json", "transformer", "tokenizer", "text_encoder", "vae"] {
        let fixture = golden::folder("pipeline-t2v").join(part);
        std::os::unix::fs::symlink(fixture, copy.path().join(part)).expect("links");
    }
    let folder = copy.path().join("scheduler");
    std::fs::create_dir(&folder).expect("makes a folder");
    let config = folder.join("scheduler_config.json");
    match scheduler {
        Some(text) => std::fs::write(config, text).expect("writes"),
        None => {
            let fixture = golden::folder("pipeline-t2v").join("scheduler/scheduler_config.json");
            std::fs::copy(fixture, config).expect("copies");
        }
    }
    copy
}

/// An engine in f32; LoRAs are in the checkpoint's folder.
fn engine(folder: &Path) -> WanEngine {
    WanEngine::new(settings(folder))
}

fn settings(folder: &Path) -> Settings {
    Settings {
        checkpoint: Some(folder.to_owned()),
        installed: folder.to_owned(),
        demonstration: folder.to_owned(),
        loras: folder.join("loras"),
        device: ChosenDevice::default(),
        kind: Kind::Float,
        quantization: Quantization::None,
    }
}

/// A context whose video is `output` and whose scratch folder is `scratch`.
fn context(output: &Path, scratch: &Path) -> GenerateContext {
    let id = "wan21-1".parse().expect("an id");
    GenerateContext::new(id, 1, output, scratch, Interrupt::default(), |_, _, _| {})
}

fn request() -> GenerateRequest {
    serde_json::from_value(serde_json::json!({
        "prompt": "a red circle", "resolution": "32x32", "num_frames": 5, "steps": 2, "seed": 3
    }))
    .expect("a request")
}

#[test]
fn the_checkpoints_own_scheduler_is_the_default() {
    let euler = r#"{"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}"#;
    let ancestral =
        r#"{"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0, "stochastic_sampling": true}"#;
    for (config, name) in [
        (Some(euler), SchedulerName::Euler),
        (Some(ancestral), SchedulerName::EulerAncestral),
        (None, SchedulerName::Unipc),
    ] {
        let folder = checkpoint(config);
        let engine = engine(folder.path());
        assert_eq!(engine.describe().expect("describes").default_scheduler, name);
        assert_eq!(engine.resolve(&request()).expect("resolves").settings.scheduler, name);
        for &other in SchedulerName::ALL {
            let named = GenerateRequest { scheduler: Some(other), ..request() };
            assert_eq!(engine.resolve(&named).expect("resolves").settings.scheduler, other);
        }
    }
    let broken = checkpoint(Some(r#"{"_class_name": "DDIMScheduler"}"#));
    let error = engine(broken.path()).describe().expect_err("not a scheduler of a flow model").to_string();
    assert!(error.contains("DDIMScheduler"), "{error}");
}

#[test]
fn a_model_knows_the_files_that_it_was_loaded_from() {
    let folder = checkpoint(None);
    let engine = engine(folder.path());
    let mut model = engine.load().expect("loads");
    let loaded = engine.fingerprint(&model);
    assert_eq!(engine.describe().expect("describes").fingerprint, loaded);
    let job = engine.resolve(&request()).expect("resolves");
    assert_eq!(job.fingerprint.as_ref(), Some(&loaded));

    let config = folder.path().join("scheduler/scheduler_config.json");
    let text = std::fs::read_to_string(&config).expect("reads");
    std::fs::write(config.with_extension("new"), text).expect("writes");
    std::fs::rename(config.with_extension("new"), config).expect("replaces");
    assert_ne!(engine.describe().expect("describes").fingerprint, loaded, "the same text in another file");
    assert_eq!(engine.fingerprint(&model), loaded, "the model in memory is the one before");

    // Guidance that overflows makes every latent infinite or NaN: no video comes of it.
    let mut overflowing = job;
    overflowing.settings.guidance_scale = 3.4e38;
    let context = GenerateContext::new(
        "wan21-1".parse().expect("an id"),
        1,
        folder.path().join("video.mp4"),
        folder.path(),
        Interrupt::default(),
        |stage, _, _| assert_ne!(stage, Stage::Decoding),
    );
    let error = engine.generate(&mut model, &overflowing, &context).expect_err("it is not finite");
    assert!(matches!(error, EngineError::Numerical(_)), "{error}");
    assert_eq!(error.code(), "numerical_failure");
    assert!(error.to_string().contains("the latents after denoising contain NaN or infinity"), "{error}");
}

#[test]
fn every_format_is_made_and_what_the_checkpoint_lacks_is_refused() {
    let folder = checkpoint(None);
    let engine = engine(folder.path());
    let request = serde_json::json!({"prompt": "a red circle", "resolution": "32x32", "steps": 2, "seed": 3});
    formats::makes_every_format(&engine, &request);
    formats::refuses_by_name(&engine, &request);
}
