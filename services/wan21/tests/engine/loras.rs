//! Jobs with LoRAs: same bytes as in a fresh process, files exchanged while the service runs, and what is refused.

use std::fs;
use std::path::Path;

use rstest::rstest;
use serde_json::{Value, json};
use tempfile::TempDir;
use videosdgx_api::{Code, GenerateRequest, LoraChoice, LoraLayout, Problem};
use videosdgx_diffusion::{
    Generation, LoraCatalog, Pipeline, PipelineError, PipelineOptions, Residency, WithLoras, generate,
};
use videosdgx_service::{Engine, EngineError};
use videosdgx_tensor::{Device, Kind, Quantization, Tensor, write_f32_tensors};
use wan21::{Wan21, WanEngine};

use super::{checkpoint, context, engine, golden, request, settings};

/// A checkpoint with the LoRAs `names` of the fixtures.
fn with_loras(names: &[&str]) -> TempDir {
    let folder = checkpoint(None);
    fs::create_dir(folder.path().join("loras")).expect("makes a folder");
    for name in names {
        install(folder.path(), name, name);
    }
    folder
}

/// Puts the fixture `from` under the name `to`, in place of what is there.
fn install(folder: &Path, from: &str, to: &str) {
    let fixture = golden::folder("lora-wan").join(format!("{from}.safetensors"));
    let loras = folder.join("loras");
    fs::copy(fixture, loras.join("new")).expect("copies");
    fs::rename(loras.join("new"), loras.join(format!("{to}.safetensors"))).expect("renames");
}

/// As a step-distilled LoRA is used: four steps without guidance.
fn distilled(loras: Value) -> GenerateRequest {
    let loras = serde_json::from_value(loras).expect("LoRAs");
    GenerateRequest { steps: Some(4), guidance_scale: Some(1.0), loras, ..request() }
}

/// The file of a job, whose intermediate results are in `scratch`.
fn video(
    engine: &WanEngine,
    model: &mut <WanEngine as Engine>::Model,
    loras: &Value,
    scratch: &Path,
) -> Result<Vec<u8>, EngineError> {
    let job = engine.resolve(&distilled(loras.clone())).expect("resolves");
    let output = scratch.join("video.mp4");
    engine.generate(model, &job, &context(&output, scratch))?;
    Ok(fs::read(output).expect("reads"))
}

#[rstest]
#[case(Kind::Float, Quantization::None)]
#[case(Kind::BFloat16, Quantization::Fp8)]
fn one_another_and_none_in_turn_give_the_bytes_of_a_fresh_process(
    #[case] kind: Kind,
    #[case] quantization: Quantization,
) {
    let folder = with_loras(&["diffusers", "comfy"]);
    let engine =
        WanEngine::new(videosdgx_diffusion::Settings { kind, quantization, ..settings(folder.path()) });
    let scratch = || tempfile::tempdir().expect("temporary folder");
    let jobs = [
        json!([]),
        json!([{"name": "diffusers"}]),
        json!([{"name": "comfy", "scale": 0.5}]),
        json!([{"name": "diffusers"}, {"name": "comfy", "scale": 0.5}]),
        json!([{"name": "comfy", "scale": 1.0}]),
    ];
    let fresh: Vec<Vec<u8>> = jobs
        .iter()
        .map(|loras| {
            let mut model = engine.load().expect("loads");
            video(&engine, &mut model, loras, scratch().path()).expect("makes a video")
        })
        .collect();
    for (index, one) in fresh.iter().enumerate() {
        assert!(!fresh[..index].contains(one), "{} changes the video", jobs[index]);
    }
    let mut model = engine.load().expect("loads");
    for index in [0, 1, 2, 3, 4, 1, 0] {
        let made = video(&engine, &mut model, &jobs[index], scratch().path()).expect("makes a video");
        assert!(made == fresh[index], "{} after others", jobs[index]);
    }
    let off = json!([{"name": "comfy", "scale": 0.0}]);
    let made = video(&engine, &mut model, &off, scratch().path()).expect("makes a video");
    assert!(made == fresh[0], "scale 0 is none");
}

#[test]
fn an_exchanged_file_is_read_by_the_next_job() {
    let folder = with_loras(&["diffusers", "comfy"]);
    let engine = engine(folder.path());
    let mut model = engine.load().expect("loads");
    // One scratch folder: latents of another file must not be taken for this job's.
    let scratch = tempfile::tempdir().expect("temporary folder");
    let mut make = |name: &str| video(&engine, &mut model, &json!([{"name": name}]), scratch.path());
    let expected = ["diffusers", "comfy"].map(|name| make(name).expect("makes a video"));
    let loaded = engine.describe().expect("describes").fingerprint;
    for (from, expected) in [("diffusers", &expected[0]), ("comfy", &expected[1])] {
        install(folder.path(), from, "style");
        assert!(make("style").expect("makes a video") == *expected, "{from}");
    }
    assert_eq!(engine.describe().expect("describes").fingerprint, loaded, "the checkpoint stays the same");
    let job = engine.resolve(&distilled(json!([{"name": "style"}]))).expect("resolves");
    fs::remove_file(folder.path().join("loras/style.safetensors")).expect("removes");
    let context = context(&scratch.path().join("video.mp4"), scratch.path());
    let error = engine.generate(&mut engine.load().expect("loads"), &job, &context).expect_err("it is gone");
    assert!(
        matches!(&error, EngineError::InvalidInput(problem)
        if problem.field.as_deref() == Some("loras[0].name")),
        "{error}"
    );
    assert!(error.to_string().contains("the LoRA style is not installed"), "{error}");
}

fn write(folder: &Path, name: &str, tensors: &[(&'static str, Tensor)]) {
    write_f32_tensors(&folder.join(format!("loras/{name}.safetensors")), tensors).expect("writes");
}

fn random(shape: &[i64]) -> Tensor {
    Tensor::randn(shape, (Kind::Float, Device::Cpu))
}

#[test]
fn a_lora_that_cannot_be_used_is_named_with_what_fits() {
    let folder = with_loras(&["diffusers"]);
    let engine = engine(folder.path());
    let path = |name: &str| folder.path().join(format!("loras/{name}.safetensors"));
    fs::copy(golden::folder("lora-wan-nf4").join("comfy.safetensors"), path("larger")).expect("copies");
    write(folder.path(), "foreign", &[("unet.down.0.lora_A.weight", random(&[2, 32]))]);
    const DOWN: &str = "transformer.blocks.0.attn1.to_q.lora_A.weight";
    const UP: &str = "transformer.blocks.0.attn1.to_q.lora_B.weight";
    write(folder.path(), "half", &[(DOWN, random(&[2, 32]))]);
    write(folder.path(), "ranks", &[(DOWN, random(&[2, 32])), (UP, random(&[32, 3]))]);
    let bytes = fs::read(path("diffusers")).expect("reads");
    fs::write(path("truncated"), &bytes[..bytes.len() / 2]).expect("writes");
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    fs::write(path("pointer"), pointer).expect("writes");
    let refused = |loras: Value| -> Problem { engine.resolve(&distilled(loras)).expect_err("is refused") };
    for (name, words) in [
        ("missing", &["not installed", "GET /loras"][..]),
        ("larger", &["does not fit this checkpoint", "0 of its 30 keys fit", "32 inputs"]),
        ("foreign", &["fits no layer", "0 of its 1 keys fit", "unet.down.0.lora_A.weight"]),
        ("half", &["is incomplete", DOWN]),
        ("ranks", &["has shape [32, 3]", UP]),
        ("truncated", &["cannot be read"]),
        ("pointer", &["cannot be read"]),
    ] {
        let problem = refused(json!([{"name": "diffusers"}, {"name": name}]));
        assert_eq!(problem.code, Code::InvalidField.as_str(), "{problem}");
        assert_eq!(problem.field.as_deref(), Some("loras[1].name"), "{problem}");
        for words in words.iter().chain([&name]) {
            assert!(problem.detail.contains(words), "{problem}");
        }
        assert!(!problem.detail.contains(&folder.path().display().to_string()), "{problem}");
    }
    let five = json!(["a", "b", "c", "d", "e"].map(|name| json!({"name": name})));
    assert_eq!(refused(five).limit, Some(json!(4)));

    let infinite = random(&[2, 32]).fill_(f64::INFINITY);
    write(folder.path(), "infinite", &[(DOWN, infinite), (UP, random(&[32, 2]))]);
    let mut model = engine.load().expect("loads");
    let infinite = json!([{"name": "infinite"}]);
    let error = video(&engine, &mut model, &infinite, folder.path()).expect_err("is not finite");
    assert!(matches!(error, EngineError::InvalidInput(_)), "{error}");
    assert!(error.to_string().contains("the LoRA infinite is damaged"), "{error}");
}

#[test]
fn the_list_tells_what_each_lora_is() {
    let folder = with_loras(&["diffusers", "comfy", "kohya", "original", "metadata"]);
    let engine = engine(folder.path());
    fs::write(folder.path().join("loras/broken.safetensors"), "nothing").expect("writes");
    fs::write(folder.path().join("loras/readme.txt"), "nothing").expect("writes");
    fs::write(folder.path().join("loras/.hidden.safetensors"), "nothing").expect("writes");
    let list = engine.loras().expect("lists");
    let names: Vec<&str> = list.iter().map(|lora| lora.name.as_str()).collect();
    assert_eq!(names, ["broken", "comfy", "diffusers", "kohya", "metadata", "original"]);
    let by_name = |name: &str| list.iter().find(|lora| lora.name == name).expect("is listed");
    let broken = by_name("broken");
    assert!(broken.error.as_ref().is_some_and(|error| error.contains("broken cannot be read")), "{broken:?}");
    for (name, layout, layers, ranks) in [
        ("comfy", LoraLayout::Comfy, 20, vec![3, 5, 8]),
        ("diffusers", LoraLayout::Diffusers, 26, vec![3, 5, 8]),
        ("kohya", LoraLayout::Kohya, 20, vec![3, 5, 8]),
        ("metadata", LoraLayout::Diffusers, 8, vec![4]),
        ("original", LoraLayout::Original, 26, vec![3, 5, 8]),
    ] {
        let lora = by_name(name);
        assert_eq!((lora.layout, lora.layers, &lora.ranks), (Some(layout), layers, &ranks), "{name}");
        assert_eq!(lora.error, None, "{name}");
    }
    let ink = by_name("diffusers");
    assert_eq!((ink.title.as_deref(), ink.trigger.as_deref()), (Some("Ink"), Some("drawn in ink")));
    assert_eq!((ink.keys, ink.fitting_keys), (52, 52));
    let comfy = by_name("comfy");
    assert_eq!(comfy.keys - comfy.fitting_keys, 2, "those of norms");
    let resolved = engine.resolve(&distilled(json!([{"name": "comfy"}]))).expect("resolves");
    let warning = resolved.warnings.first().expect("a warning");
    assert!(warning.starts_with("2 of the ") && warning.contains("blocks.0.norm3.diff"), "{warning}");
}

/// One generation's frames.
fn frames(pipeline: &mut WithLoras<Wan21>) -> Vec<u8> {
    let generation = Generation {
        prompt: "a red circle".to_owned(),
        width: 32,
        height: 32,
        frames: 1,
        steps: 2,
        guidance: 1.0,
        ..Generation::default()
    };
    let mut bytes = Vec::new();
    generate(
        pipeline,
        &generation,
        None,
        |_| Ok(()),
        |frame| {
            bytes.extend_from_slice(frame);
            Ok::<_, PipelineError>(())
        },
    )
    .expect("generates");
    bytes
}

#[test]
fn loras_count_as_memory_and_leave_it_when_their_budget_ends() {
    let folder = with_loras(&["diffusers", "comfy", "kohya"]);
    let catalog = LoraCatalog::new(folder.path().join("loras"));
    let choose =
        |name: &str| catalog.choose(&[LoraChoice { name: name.to_owned(), scale: 1.0 }]).expect("is there");
    let bytes = |name: &str| choose(name)[0].bytes_in(Kind::Float);
    let load = |residency| {
        let options = PipelineOptions { residency, ..PipelineOptions::new(golden::device(), Kind::Float) };
        WithLoras::<Wan21>::load(folder.path(), options).expect("loads")
    };
    let mut pipeline = load(Residency::Whole).keeping(bytes("diffusers") + bytes("comfy"));
    let base = pipeline.resident_bytes();
    let plain = frames(&mut pipeline);
    let mut made = Vec::new();
    for name in ["diffusers", "comfy"] {
        pipeline.choose(choose(name));
        made.push(frames(&mut pipeline));
    }
    let both = pipeline.lora_bytes();
    assert_eq!(pipeline.resident_bytes(), base + both);
    // Alphas and keys of norms are not kept.
    assert!(both > bytes("diffusers") && both <= bytes("diffusers") + bytes("comfy"), "{both}");
    pipeline.choose(choose("kohya"));
    assert!(frames(&mut pipeline) != made[1]);
    assert!(pipeline.lora_bytes() < both, "the one used longest ago was freed");
    pipeline.choose(Vec::new());
    assert!(frames(&mut pipeline) == plain);

    let mut staged = load(Residency::Staged);
    for (name, expected) in ["diffusers", "comfy"].into_iter().zip(&made) {
        staged.choose(choose(name));
        assert!(frames(&mut staged) == *expected, "{name}, one stage in memory at a time");
    }
    assert!(staged.lora_bytes() <= bytes("comfy"), "without a budget only the job's are kept");

    let engine = engine(folder.path());
    let with_all = engine.declared_peak().expect("declares");
    fs::remove_file(folder.path().join("loras/diffusers.safetensors")).expect("removes");
    let without = engine.declared_peak().expect("declares");
    assert!(with_all - without > 4 * 8 * 1024, "{with_all} {without}");
}
