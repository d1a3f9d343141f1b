//! Whole pipelines against diffusers on tiny random checkpoints: results, residency, resuming and errors.

#[path = "../../../tests/fixtures/golden.rs"]
mod golden;

use golden::{device, folder, relative, tensors, weights};
use rstest::rstest;
use videosdgx_api::SchedulerName;
use videosdgx_diffusion::{
    Generation, Pipeline, PipelineError, PipelineOptions, Progress, Residency, Summary, generate,
};
use videosdgx_picture::Picture;
use videosdgx_tensor::{Kind, Quantization, Tensor};
use videosdgx_video::text::{MAX_TOKENS, PromptTokenizer, Umt5Encoder};
use wan21::pipeline::WanPipeline;

fn load(name: &str, kind: Kind, residency: Residency) -> WanPipeline {
    let options = PipelineOptions { residency, ..PipelineOptions::new(device(), kind) };
    WanPipeline::load(&folder(name), options).expect("loads")
}

/// The generation that `tests/reference/pipelines.py` runs with diffusers.
fn generation(first_frame: Option<Picture>) -> Generation {
    Generation {
        prompt: "a red circle moving right  on a black background".to_owned(),
        negative_prompt: "blue square".to_owned(),
        first_frame,
        width: 48,
        height: 32,
        frames: 9,
        steps: 4,
        guidance: 3.0,
        seed: 5,
        ..Generation::default()
    }
}

fn image() -> Picture {
    let image = &tensors("pipeline-i2v")["image"];
    let bytes = Vec::<u8>::try_from(image.flatten(0, -1)).expect("bytes");
    Picture::new(48, 32, bytes).expect("a picture")
}

fn ignore(_: Progress) -> Result<(), PipelineError> {
    Ok(())
}

/// All frames as `[frames, height, width, 3]`.
fn decoded(pipeline: &mut WanPipeline, latents: &Tensor) -> Tensor {
    let mut bytes = Vec::new();
    let keep = |frame: &[u8]| {
        bytes.extend_from_slice(frame);
        Ok::<_, PipelineError>(())
    };
    pipeline.decode_latents(latents, ignore, keep).expect("decodes");
    Tensor::from_slice(&bytes).view([-1, 32, 48, 3])
}

#[rstest]
fn agrees_with_diffusers(
    #[values(("pipeline-t2v", "video", 9), ("pipeline-t2v", "picture", 1), ("pipeline-i2v", "video", 9))]
    case: (&str, &str, u32),
    #[values((Kind::Float, 1e-4), (Kind::BFloat16, 2e-2))] (kind, bound): (Kind, f64),
    #[values(Residency::Whole, Residency::Staged)] residency: Residency,
) {
    let (name, what, frames) = case;
    let golden = tensors(name);
    let mut pipeline = load(name, kind, residency);
    let generation = Generation { frames, ..generation(pipeline.takes_image().then(image)) };
    let mut summary = Summary::default();
    let conditions = pipeline.encode(&generation, &mut summary).expect("encodes");
    let noise = &golden[&format!("{what}_noise")];
    assert_eq!(noise.size(), pipeline.latent_shape(&generation));
    let latents = pipeline.denoise_from(noise, &conditions, &generation, ignore).expect("denoises");
    let error = relative(&latents, &golden[&format!("{what}_latents")]);
    let video = decoded(&mut pipeline, &latents);
    let expected = golden[&format!("{what}_video")].to_device(video.device());
    let video_error = relative(&video, &expected);
    println!("{name} {what} {kind:?} {residency:?}: latents {error:.2e}, frames {video_error:.2e}");
    assert!(error <= bound, "latents: {error:.2e}");
    if kind == Kind::Float {
        // Bytes may round to the other side.
        let difference = (video.to_kind(Kind::Int) - expected.to_kind(Kind::Int)).abs().max();
        assert!(i64::try_from(difference).expect("a number") <= 1);
    }
    assert!(video_error <= 2e-2, "frames: {video_error:.2e}");
}

/// One whole run: its frames, what was reported and the summary.
fn run(
    pipeline: &mut WanPipeline,
    generation: &Generation,
    scratch: Option<&std::path::Path>,
) -> (Vec<u8>, Vec<Progress>, Summary) {
    let (mut bytes, mut reported) = (Vec::new(), Vec::new());
    let report = |progress| {
        reported.push(progress);
        Ok::<_, PipelineError>(())
    };
    let keep = |frame: &[u8]| {
        assert_eq!(frame.len(), 48 * 32 * 3);
        bytes.extend_from_slice(frame);
        Ok(())
    };
    let summary = generate(pipeline, generation, scratch, report, keep).expect("generates");
    (bytes, reported, summary)
}

#[rstest]
fn the_same_seed_gives_the_same_bytes(#[values(Kind::Float, Kind::BFloat16)] kind: Kind) {
    let mut pipeline = load("pipeline-t2v", kind, Residency::Whole);
    let generation = generation(None);
    let (first, reported, summary) = run(&mut pipeline, &generation, None);
    assert_eq!(first.len(), 9 * 48 * 32 * 3);
    assert_eq!(reported.first(), Some(&Progress::Encoding));
    assert!(reported.contains(&Progress::Denoising { done: 0, steps: 4 }));
    assert!(reported.contains(&Progress::Denoising { done: 4, steps: 4 }));
    assert_eq!(reported.last(), Some(&Progress::Decoding { done: 9, frames: 9 }));
    assert_eq!(summary, Summary::default());
    assert_eq!(run(&mut pipeline, &generation, None).0, first);
    let mut again = load("pipeline-t2v", kind, Residency::Staged);
    assert_eq!(run(&mut again, &generation, None).0, first, "loaded anew");
    for other in [
        Generation { seed: 6, ..generation.clone() },
        Generation { guidance: 1.0, ..generation.clone() },
        Generation { shift: Some(7.0), ..generation.clone() },
        Generation { prompt: "a cat".to_owned(), ..generation.clone() },
    ] {
        assert_ne!(run(&mut pipeline, &other, None).0, first, "{other:?}");
    }
}

#[test]
fn every_scheduler_repeats_itself_and_differs_from_the_others() {
    let mut pipeline = load("pipeline-t2v", Kind::Float, Residency::Whole);
    let mut videos = Vec::new();
    for &scheduler in SchedulerName::ALL {
        let generation = Generation { scheduler: Some(scheduler), ..generation(None) };
        let (video, ..) = run(&mut pipeline, &generation, None);
        assert_eq!(run(&mut pipeline, &generation, None).0, video, "{scheduler:?}");
        assert!(!videos.contains(&video), "{scheduler:?}");
        videos.push(video);
    }
}

#[test]
fn stored_latents_skip_denoising() {
    let scratch = tempfile::tempdir().expect("temporary folder");
    let mut pipeline = load("pipeline-i2v", Kind::Float, Residency::Staged);
    let generation = generation(Some(image()));
    let frames_lost = generate(&mut pipeline, &generation, Some(scratch.path()), ignore, |_| {
        Err(PipelineError::Input { field: "disk", reason: "full".to_owned() })
    });
    assert!(matches!(frames_lost, Err(PipelineError::Input { field: "disk", .. })));
    let (resumed, reported, summary) = run(&mut pipeline, &generation, Some(scratch.path()));
    assert!(
        summary.resumed && !reported.iter().any(|progress| matches!(progress, Progress::Denoising { .. }))
    );
    let (whole, _, summary) = run(&mut pipeline, &generation, None);
    assert!(!summary.resumed);
    assert_eq!(resumed, whole);
    let other = Generation { seed: 99, ..generation };
    assert!(
        !run(&mut pipeline, &other, Some(scratch.path())).2.resumed,
        "another request's latents do not count"
    );
}

#[test]
fn frames_that_are_not_finite_are_an_error() {
    let mut pipeline = load("pipeline-t2v", Kind::Float, Residency::Whole);
    let latents = Tensor::full(pipeline.latent_shape(&generation(None)), f64::NAN, (Kind::Float, device()));
    let result = pipeline.decode_latents(&latents, ignore, |_| panic!("no frame was to be passed on"));
    let error: PipelineError = result.expect_err("it is not finite");
    assert_eq!(error.to_string(), "the frames after decoding contain NaN or infinity");
}

#[test]
fn a_callback_ends_it_between_steps() {
    let mut pipeline = load("pipeline-t2v", Kind::Float, Residency::Whole);
    let mut steps = 0;
    let stop = |progress| {
        if let Progress::Denoising { done, .. } = progress {
            steps = done;
            if done == 2 {
                return Err(PipelineError::Input { field: "job", reason: "cancelled".to_owned() });
            }
        }
        Ok(())
    };
    let result =
        generate(&mut pipeline, &generation(None), None, stop, |_| panic!("no frame was to be decoded"));
    assert!(matches!(result, Err(PipelineError::Input { field: "job", .. })));
    assert_eq!(steps, 2);
}

#[test]
fn prompts_are_cleaned_and_encoded_without_padding() {
    let mut pipeline = load("pipeline-t2v", Kind::Float, Residency::Whole);
    let messy = Generation {
        prompt: " a red&nbsp;circle\n  &amp;amp; \u{201c}cat\u{201d} ".into(),
        ..generation(None)
    };
    let conditions = pipeline.encode(&messy, &mut Summary::default()).expect("encodes");
    let tokenizer = PromptTokenizer::open(&folder("umt5").join("tokenizer"), MAX_TOKENS).expect("opens");
    let tokens = tokenizer.encode("a red circle & \"cat\"").expect("encodes");
    let weights = weights("umt5", "text_encoder", Kind::Float, Quantization::None);
    let encoder = Umt5Encoder::load(&weights, weights.checkpoint().config().expect("config")).expect("loads");
    assert_eq!(conditions.prompt, encoder.forward(&tokens.ids).expect("computes"));
}

#[test]
fn unknown_words_and_long_prompts_are_reported() {
    let mut pipeline = load("pipeline-t2v", Kind::Float, Residency::Whole);
    let prompt = format!("a größe circle {}", "red circle ".repeat(300));
    let summary = run(
        &mut pipeline,
        &Generation { prompt, negative_prompt: "größe 圆".into(), ..generation(None) },
        None,
    )
    .2;
    assert_eq!(summary.unknown_words, ["größe", "圆"]);
    assert!(summary.truncated);
}

#[test]
fn staged_residency_never_holds_both_halves() {
    let mut whole = load("pipeline-i2v", Kind::Float, Residency::Whole);
    let mut staged = load("pipeline-i2v", Kind::Float, Residency::Staged);
    let generation = generation(Some(image()));
    let all = whole.resident_bytes();
    let before = staged.resident_bytes();
    assert!(before < all && staged.transformer_bytes() == 0);
    run(&mut whole, &generation, None);
    run(&mut staged, &generation, None);
    assert_eq!(whole.resident_bytes(), all);
    assert_eq!(staged.resident_bytes() + before, all, "the encoders were freed, transformer and VAE loaded");
}

#[test]
fn fp8_is_smaller_and_close() {
    let load = |quantization| {
        let options = PipelineOptions { quantization, ..PipelineOptions::new(device(), Kind::BFloat16) };
        WanPipeline::load(&folder("pipeline-t2v"), options).expect("loads")
    };
    let (mut dense, mut fp8) = (load(Quantization::None), load(Quantization::Fp8));
    assert!(fp8.transformer_bytes() < dense.transformer_bytes());
    let (left, right) =
        (run(&mut fp8, &generation(None), None).0, run(&mut dense, &generation(None), None).0);
    let error = relative(&Tensor::from_slice(&left), &Tensor::from_slice(&right));
    println!("{error:.2e}");
    assert!(error < 0.1, "{error:.2e}");
}

#[test]
fn requests_that_the_model_cannot_run_are_refused() {
    let pipeline = load("pipeline-t2v", Kind::Float, Residency::Whole);
    let refused = |generation: Generation| match pipeline.check(&generation) {
        Err(PipelineError::Input { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(generation(Some(image()))), "image");
    assert_eq!(refused(Generation { width: 24, ..generation(None) }), "width");
    assert_eq!(
        refused(Generation { width: 16 * 65, ..generation(None) }),
        "width",
        "beyond the rotary angles"
    );
    assert_eq!(refused(Generation { frames: 4 * 64 + 1, ..generation(None) }), "num_frames");
    assert!(pipeline.check(&generation(None)).is_ok());
}

#[test]
fn a_broken_checkpoint_names_its_file() {
    let copy = tempfile::tempdir().expect("temporary folder");
    let link = |part: &str| {
        std::os::unix::fs::symlink(folder("pipeline-t2v").join(part), copy.path().join(part)).expect("links");
    };
    let error = |what: &str| {
        let result = WanPipeline::load(copy.path(), PipelineOptions::new(device(), Kind::Float));
        let error = result.err().expect("not loadable").to_string();
        assert!(error.contains(what), "{what}: {error}");
    };
    error("model_index.json is missing");
    link("model_index.json");
    error("transformer/config.json is missing");
    for part in ["transformer", "scheduler", "tokenizer", "text_encoder"] {
        link(part);
    }
    error("vae/config.json is missing");
    std::fs::create_dir(copy.path().join("vae")).expect("makes a folder");
    let vae = folder("pipeline-t2v").join("vae");
    std::fs::copy(vae.join("config.json"), copy.path().join("vae/config.json")).expect("copies");
    error("safetensors is missing");
    let weights = "diffusion_pytorch_model.safetensors";
    let bytes = std::fs::read(vae.join(weights)).expect("reads");
    std::fs::write(copy.path().join("vae").join(weights), &bytes[..bytes.len() - 100]).expect("cuts");
    error("outside the file");
    std::fs::write(copy.path().join("model_index.json.new"), r#"{"boundary_ratio": 0.9}"#).expect("writes");
    std::fs::rename(copy.path().join("model_index.json.new"), copy.path().join("model_index.json"))
        .expect("replaces");
    error("Wan 2.2");
}
