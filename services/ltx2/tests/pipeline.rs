//! Whole pipelines against diffusers on tiny random checkpoints: results, stages, residency, resuming and errors.

#[path = "../../../tests/fixtures/golden.rs"]
#[expect(dead_code, reason = "these tests load whole checkpoints")]
mod golden;

use golden::{device, folder, relative, tensors};
use ltx2::pipeline::{Ltx2Pipeline, Noise};
use rstest::rstest;
use videosdgx_diffusion::{
    Generation, Guidances, Pipeline, PipelineError, PipelineOptions, Progress, Residency, Summary, generate,
};
use videosdgx_picture::Picture;
use videosdgx_tensor::{Kind, Quantization, Tensor};

const FULL: [&str; 2] = ["ltx2-pipeline-2.0", "ltx2-pipeline-2.3"];
const DISTILLED: &str = "ltx2-pipeline-distilled";

fn load(name: &str, kind: Kind, residency: Residency) -> Ltx2Pipeline {
    let options = PipelineOptions { residency, ..PipelineOptions::new(device(), kind) };
    Ltx2Pipeline::load(&folder(name), options).expect("loads")
}

/// Only classifier-free guidance, the same for picture and sound.
const TEXT_GUIDANCE: Guidances =
    Guidances { audio: Some(3.0), perturbed: Some(0.0), isolated: Some(1.0), rescale: Some(0.0) };

/// The generation that `tests/reference/ltx2_pipelines.py` runs with diffusers.
fn generation() -> Generation {
    Generation {
        prompt: " a red circle moving right and humming ".to_owned(),
        negative_prompt: "blue square".to_owned(),
        width: 96,
        height: 64,
        frames: 17,
        fps: 8,
        steps: 3,
        guidance: 3.0,
        guidances: TEXT_GUIDANCE,
        audio: true,
        seed: 5,
        ..Generation::default()
    }
}

fn picture(name: &str, which: &str) -> Picture {
    let image = &tensors(name)[which];
    let bytes = Vec::<u8>::try_from(image.flatten(0, -1)).expect("bytes");
    let size = image.size();
    Picture::new(size[1] as usize, size[0] as usize, bytes).expect("a picture")
}

fn ignore(_: Progress) -> Result<(), PipelineError> {
    Ok(())
}

/// The reference's noise. It draws some for the tokens of a given last frame too, and does not use it.
fn noise(name: &str, case: &str, [video, sound]: [Vec<i64>; 2]) -> Noise {
    let golden = tensors(name);
    let of = |what: &str| golden[&format!("{case}_{what}")].shallow_clone();
    let noise = Noise { video: of("noise").narrow(1, 0, video[1]), sound: of("sound_noise") };
    assert_eq!([noise.video.size(), noise.sound.size()], [video, sound]);
    noise
}

/// Compares normalised latents of picture and sound with the reference's.
fn compare(
    pipeline: &mut Ltx2Pipeline,
    name: &str,
    case: &str,
    (video, sound): (&Tensor, &Tensor),
    bound: f64,
) {
    let golden = tensors(name);
    let (video, sound) = pipeline.denormalized(video, sound).expect("is loaded");
    let errors = [
        relative(&video, &golden[&format!("{case}_latents")]),
        relative(&sound, &golden[&format!("{case}_sound_latents")]),
    ];
    println!("{name} {case}: picture {:.2e}, sound {:.2e}", errors[0], errors[1]);
    assert!(errors.iter().all(|error| *error <= bound), "{name} {case}: {errors:?}");
}

#[rstest]
fn latents_agree_with_diffusers(
    #[values("ltx2-pipeline-2.0", "ltx2-pipeline-2.3")] name: &str,
    #[values("video", "guided", "first", "both")] case: &str,
    #[values((Kind::Float, 1e-4), (Kind::BFloat16, 2e-2))] (kind, bound): (Kind, f64),
) {
    let mut pipeline = load(name, kind, Residency::Whole);
    let all_guidances = matches!(case, "guided" | "both");
    let generation = Generation {
        guidance: if all_guidances { 2.0 } else { 3.0 },
        guidances: if all_guidances { Guidances::default() } else { TEXT_GUIDANCE },
        first_frame: matches!(case, "first" | "both").then(|| picture(name, "first")),
        last_frame: (case == "both").then(|| picture(name, "last")),
        ..generation()
    };
    let conditions = pipeline.encode(&generation, &mut Summary::default()).expect("encodes");
    let noise = noise(name, case, pipeline.noise_shapes(&generation));
    let (video, sound) = pipeline.denoise_from(&noise, &conditions, &generation, ignore).expect("denoises");
    compare(&mut pipeline, name, case, (&video, &sound), bound);
}

#[rstest]
fn frames_and_sound_agree_with_diffusers(
    #[values("ltx2-pipeline-2.0", "ltx2-pipeline-2.3")] name: &str,
    #[values(Residency::Whole, Residency::Staged)] residency: Residency,
) {
    let mut pipeline = load(name, Kind::Float, residency);
    let generation = generation();
    let golden = tensors(name);
    let conditions = pipeline.encode(&generation, &mut Summary::default()).expect("encodes");
    let noise = noise(name, "video", pipeline.noise_shapes(&generation));
    let (video, sound) = pipeline.denoise_from(&noise, &conditions, &generation, ignore).expect("denoises");
    let mut bytes = Vec::new();
    let keep = |frame: &[u8]| {
        bytes.extend_from_slice(frame);
        Ok::<_, PipelineError>(())
    };
    pipeline.decode_picture(&video, ignore, keep).expect("decodes");
    let frames = Tensor::from_slice(&bytes).view([17, 64, 96, 3]).to_kind(Kind::Int);
    let expected = golden["video_frames"].to_device(frames.device()).to_kind(Kind::Int);
    // Bytes may round to the other side.
    let difference = i64::try_from((frames - expected).abs().max()).expect("a number");
    assert!(difference <= 1, "{name}: frames differ by {difference}");
    let (wave, rate) = pipeline.decode_waveform(&sound).expect("decodes");
    let error = relative(&wave, &golden["video_wave"]);
    println!("{name} {residency:?}: waveform {error:.2e} at {rate} Hz");
    assert!(error <= 1e-4, "{name}: {error:.2e}");
}

#[rstest]
fn two_stages_agree_with_diffusers(
    #[values((Kind::Float, 1e-4), (Kind::BFloat16, 2e-2))] (kind, bound): (Kind, f64),
) {
    let mut pipeline = load(DISTILLED, kind, Residency::Whole);
    // The size of the second stage.
    let generation = Generation {
        width: 192,
        height: 128,
        steps: 8,
        guidance: 1.0,
        guidances: Guidances::default(),
        upscale: true,
        ..generation()
    };
    let conditions = pipeline.encode(&generation, &mut Summary::default()).expect("encodes");
    let first = noise(DISTILLED, "small", pipeline.noise_shapes(&generation));
    let (small, sound) = pipeline.denoise_from(&first, &conditions, &generation, ignore).expect("denoises");
    compare(&mut pipeline, DISTILLED, "small", (&small, &sound), bound);
    let large = pipeline.enlarge(&small).expect("enlarges");
    let (enlarged, _) = pipeline.denormalized(&large, &sound).expect("is loaded");
    let error = relative(&enlarged, &tensors(DISTILLED)["upsampled_latents"]);
    println!("enlarged {error:.2e}");
    assert!(error <= bound, "enlarged: {error:.2e}");
    let second = noise(DISTILLED, "second", pipeline.refining_noise_shapes(&generation));
    let (video, sound) =
        pipeline.refine_from(&second, (&large, &sound), &conditions, &generation, ignore).expect("denoises");
    compare(&mut pipeline, DISTILLED, "second", (&video, &sound), bound);
}

/// One whole run: its frames, what was reported and the summary.
fn run(
    pipeline: &mut Ltx2Pipeline,
    generation: &Generation,
    scratch: Option<&std::path::Path>,
) -> (Vec<u8>, Vec<Progress>, Summary) {
    let (mut bytes, mut reported) = (Vec::new(), Vec::new());
    let report = |progress| {
        reported.push(progress);
        Ok::<_, PipelineError>(())
    };
    let keep = |frame: &[u8]| {
        bytes.extend_from_slice(frame);
        Ok(())
    };
    let summary = generate(pipeline, generation, scratch, report, keep).expect("generates");
    (bytes, reported, summary)
}

#[test]
fn the_same_seed_gives_the_same_picture_and_sound() {
    let name = FULL[1];
    let mut pipeline = load(name, Kind::BFloat16, Residency::Whole);
    let (frames, reported, summary) = run(&mut pipeline, &generation(), None);
    assert_eq!(frames.len(), 17 * 96 * 64 * 3);
    assert!(reported.contains(&Progress::Denoising { done: 0, steps: 3 }));
    assert!(reported.contains(&Progress::Denoising { done: 3, steps: 3 }));
    assert_eq!(reported.last(), Some(&Progress::Decoding { done: 17, frames: 17 }));
    let sound = summary.sound.expect("sound");
    assert_eq!((sound.rate(), sound.channels()), (48_000, 2));
    let mut staged = load(name, Kind::BFloat16, Residency::Staged);
    let (again, _, summary) = run(&mut staged, &generation(), None);
    assert_eq!((again, summary.sound), (frames.clone(), Some(sound)));
    // The picture does not depend on whether the sound is wanted.
    let silent = Generation { audio: false, ..generation() };
    let (picture, _, summary) = run(&mut pipeline, &silent, None);
    assert_eq!((picture, summary.sound), (frames.clone(), None));
    for other in [
        Generation { seed: 6, ..generation() },
        Generation { fps: 10, ..generation() },
        Generation { guidances: Guidances::default(), ..generation() },
    ] {
        assert_ne!(run(&mut pipeline, &other, None).0, frames, "{other:?}");
    }
}

#[test]
fn a_given_sound_stays_and_changes_the_picture() {
    let mut pipeline = load(FULL[0], Kind::Float, Residency::Staged);
    let tone: Vec<f32> = (0..16_000).map(|sample| (sample as f32 * 0.2).sin() * 0.5).collect();
    let sound = videosdgx_sound::Sound::new(16_000, vec![tone]).expect("sound");
    let given = Generation { audio_input: Some(sound.clone()), ..generation() };
    let (frames, _, summary) = run(&mut pipeline, &given, None);
    assert_eq!(summary.sound, Some(sound));
    let (without, ..) = run(&mut pipeline, &generation(), None);
    assert_ne!(frames, without);
    let conditions = pipeline.encode(&given, &mut Summary::default()).expect("encodes");
    let shapes = pipeline.noise_shapes(&given);
    let noise = noise(FULL[0], "video", shapes);
    let (_, tokens) = pipeline.denoise_from(&noise, &conditions, &given, ignore).expect("denoises");
    let (_, more_steps) = pipeline
        .denoise_from(&noise, &conditions, &Generation { steps: 1, ..given }, ignore)
        .expect("denoises");
    assert_eq!(tokens, more_steps, "the given sound is not denoised");
}

#[test]
fn enlarged_videos_have_their_size_and_all_steps() {
    let mut pipeline = load(DISTILLED, Kind::Float, Residency::Whole);
    let generation =
        Generation { width: 128, height: 128, steps: 2, guidance: 1.0, upscale: true, ..generation() };
    let (frames, reported, _) = run(&mut pipeline, &generation, None);
    assert_eq!(frames.len(), 17 * 128 * 128 * 3);
    assert!(reported.contains(&Progress::Denoising { done: 5, steps: 5 }));
}

#[test]
fn stored_latents_skip_denoising() {
    let scratch = tempfile::tempdir().expect("temporary folder");
    let mut pipeline = load(FULL[0], Kind::Float, Residency::Staged);
    let frames_lost = generate(&mut pipeline, &generation(), Some(scratch.path()), ignore, |_| {
        Err(PipelineError::Input { field: "disk", reason: "full".to_owned() })
    });
    assert!(matches!(frames_lost, Err(PipelineError::Input { field: "disk", .. })));
    let (resumed, reported, summary) = run(&mut pipeline, &generation(), Some(scratch.path()));
    assert!(
        summary.resumed && !reported.iter().any(|progress| matches!(progress, Progress::Denoising { .. }))
    );
    let (whole, _, fresh) = run(&mut pipeline, &generation(), None);
    assert_eq!((resumed, summary.sound), (whole, fresh.sound));
}

#[rstest]
fn quantised_weights_are_smaller_and_close(
    #[values((Quantization::Fp8, 0.1), (Quantization::Nf4, 0.3), (Quantization::Nvfp4, 0.3))]
    (quantization, bound): (Quantization, f64),
) {
    let load = |quantization| {
        let options = PipelineOptions { quantization, ..PipelineOptions::new(device(), Kind::BFloat16) };
        Ltx2Pipeline::load(&folder(FULL[1]), options).expect("loads")
    };
    let (mut dense, mut quantised) = (load(Quantization::None), load(quantization));
    assert!(quantised.transformer_bytes() < dense.transformer_bytes());
    let (left, right) = (run(&mut quantised, &generation(), None).0, run(&mut dense, &generation(), None).0);
    let error = relative(&Tensor::from_slice(&left), &Tensor::from_slice(&right));
    println!("{quantization:?} {error:.2e}");
    assert!(error < bound, "{error:.2e}");
}

#[test]
fn requests_that_the_model_cannot_run_are_refused() {
    let pipeline = load(FULL[0], Kind::Float, Residency::Staged);
    let refused = |generation: Generation| match pipeline.check(&generation) {
        Err(PipelineError::Input { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert!(pipeline.check(&generation()).is_ok());
    assert_eq!(refused(Generation { width: 48, ..generation() }), "width");
    assert_eq!(refused(Generation { width: 96, upscale: true, ..generation() }), "width");
    assert_eq!(refused(Generation { frames: 16, ..generation() }), "num_frames");
    assert_eq!(refused(Generation { frames: 8 * 20 + 9, fps: 8, ..generation() }), "num_frames");
    let last = Some(picture(FULL[0], "last"));
    assert_eq!(refused(Generation { last_frame: last, ..generation() }), "last_image");
}

#[test]
fn components_that_do_not_fit_are_named() {
    let copy = tempfile::tempdir().expect("temporary folder");
    let link = |part: &str| {
        std::os::unix::fs::symlink(folder(FULL[0]).join(part), copy.path().join(part)).expect("links");
    };
    let error = |what: &str| {
        let result = Ltx2Pipeline::load(copy.path(), PipelineOptions::new(device(), Kind::Float));
        let error = result.err().expect("not loadable").to_string();
        assert!(error.contains(what), "{what}: {error}");
    };
    error("transformer/config.json is missing");
    for part in ["transformer", "connectors", "vae", "audio_vae", "scheduler", "tokenizer", "text_encoder"] {
        link(part);
    }
    error("vocoder/config.json is missing");
    link("vocoder");
    let vae = copy.path().join("vae");
    std::fs::remove_file(&vae).expect("removes");
    std::fs::create_dir(&vae).expect("makes a folder");
    let config = std::fs::read_to_string(folder(FULL[0]).join("vae/config.json")).expect("reads");
    let other = config.replace("\"latent_channels\": 16", "\"latent_channels\": 32");
    assert_ne!(config, other);
    std::fs::write(vae.join("config.json"), other).expect("writes");
    error("vae/config.json");
}
