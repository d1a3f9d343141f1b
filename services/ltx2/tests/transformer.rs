//! The transformer against diffusers on tiny random configurations.

#[path = "../../../tests/fixtures/golden.rs"]
mod golden;

use std::collections::{BTreeMap, HashMap};

use golden::{device, relative, tensors, weights};
use ltx2::transformer::{
    Branch, Context, GivenTokens, Latents, LtxTransformer, Prompt, Times, Timesteps, Velocity,
    expected_tensors,
};
use rstest::rstest;
use videosdgx_tensor::{Kind, Quantization, Tensor, TensorError, catch_libtorch_errors};

const LATENTS: [i64; 3] = [3, 2, 3];
const SOUND: i64 = 7;
const FPS: f64 = 25.0;
const TIME: f64 = 700.0;
const KEYFRAME: i64 = 9;

const POSITIVE: Branch = Branch { prompt: 0, perturbed: false, isolated: false };
const NEGATIVE: Branch = Branch { prompt: 1, ..POSITIVE };
const PERTURBED: Branch = Branch { perturbed: true, ..POSITIVE };
const ISOLATED: Branch = Branch { isolated: true, ..POSITIVE };

struct Fixture {
    transformer: LtxTransformer,
    golden: HashMap<String, Tensor>,
    bound: f64,
}

impl Fixture {
    fn load(version: &str, kind: Kind, quantization: Quantization) -> Self {
        let name = format!("ltx2-transformer-{version}");
        let weights = weights(&name, "transformer", kind, quantization);
        let config = weights.checkpoint().config().expect("config.json");
        let transformer = LtxTransformer::load(&weights, config).expect("loads");
        assert_eq!(weights.unused(), Vec::<String>::new(), "every tensor is used");
        let bound = if kind == Kind::Float { 1e-4 } else { 2e-2 };
        Self { transformer, golden: tensors(&name), bound }
    }

    /// A context of the prompts by name.
    fn context(&self, names: &[&str], branches: &[Branch]) -> Context {
        let masks: Vec<_> = names.iter().map(|name| self.golden.get(&format!("{name}.mask"))).collect();
        let prompts: Vec<Prompt<'_>> = names
            .iter()
            .zip(&masks)
            .map(|(name, &mask)| Prompt {
                video: &self.golden[&format!("{name}.video")],
                audio: Some(&self.golden[&format!("{name}.audio")]),
                mask,
            })
            .collect();
        self.transformer.context(&prompts, branches, &[1])
    }

    fn forward(&self, context: &Context) -> Velocity {
        let config = self.transformer.config();
        let positions = self.transformer.positions(
            &config.video_coordinates(LATENTS, FPS),
            Some(&config.audio_coordinates(SOUND)),
            None,
        );
        let latents = Latents { video: &self.golden["video"], audio: Some(&self.golden["audio"]) };
        catch_libtorch_errors(|| {
            Ok::<_, TensorError>(self.transformer.forward(
                latents,
                &Times::uniform(TIME),
                context,
                &positions,
            ))
        })
        .expect("computes")
    }

    /// With a first frame that is given, and a last one by further tokens.
    fn forward_given(&self, times: impl Fn(&GivenTokens) -> Times) -> Velocity {
        let config = self.transformer.config();
        let [frames, rows, columns] = LATENTS;
        let pictures = [
            config.video_coordinates(LATENTS, FPS),
            config.keyframe_coordinates(rows, columns, KEYFRAME, FPS),
        ];
        let mut strengths = vec![0f32; (frames * rows * columns) as usize];
        strengths[..(rows * columns) as usize].fill(1.0);
        strengths.extend(vec![0.75; (rows * columns) as usize]);
        let marks = Tensor::from_slice(&strengths).eq(1.0).to_kind(Kind::Float);
        let positions = self.transformer.positions(
            &Tensor::cat(&pictures, 1),
            Some(&config.audio_coordinates(SOUND)),
            Some(&marks),
        );
        let video = Tensor::cat(&[&self.golden["video"], &self.golden["keyframe"]], 1);
        let latents = Latents { video: &video, audio: Some(&self.golden["audio"]) };
        let context = self.context(&["prompt"], &[POSITIVE]);
        let times = times(&GivenTokens::new(&strengths, device()));
        self.transformer.forward(latents, &times, &context, &positions)
    }

    /// Compares element `index` of a prediction with the outputs of case `name`.
    fn compare(&self, velocity: &Velocity, index: i64, name: &str) {
        for (stream, ours) in [("video", Some(&velocity.video)), ("audio", velocity.audio.as_ref())] {
            let ours = ours.expect("there is sound").select(0, index);
            let error = relative(&ours, &self.golden[&format!("{name}.out.{stream}")]);
            println!("{name} {stream}: {error:.2e}");
            assert!(error <= self.bound, "{name} {stream}: {error:.2e}");
        }
    }
}

#[rstest]
fn branches_agree_with_diffusers_alone_and_together(
    #[values("2.0", "2.3", "2.5", "interleaved")] version: &str,
    #[values(Kind::Float, Kind::BFloat16)] kind: Kind,
) {
    let fixture = Fixture::load(version, kind, Quantization::None);
    let cases =
        [("prompt", POSITIVE), ("isolated", ISOLATED), ("negative", NEGATIVE), ("perturbed", PERTURBED)];
    for (name, branch) in cases {
        let alone = fixture.context(&["prompt", "negative"], &[branch]);
        fixture.compare(&fixture.forward(&alone), 0, name);
    }
    let branches = cases.map(|(_, branch)| branch);
    let together = fixture.forward(&fixture.context(&["prompt", "negative"], &branches));
    assert_eq!(together.video.size()[0], 4);
    for (index, (name, _)) in cases.iter().enumerate() {
        fixture.compare(&together, index as i64, name);
    }
    let twice = fixture.forward(&fixture.context(&["prompt"], &[POSITIVE, POSITIVE]));
    fixture.compare(&twice, 0, "prompt");
    fixture.compare(&twice, 1, "prompt");
}

#[rstest]
fn given_pictures_and_sound_agree_with_diffusers(
    #[values("2.0", "2.3", "2.5", "interleaved")] version: &str,
    #[values(Kind::Float, Kind::BFloat16)] kind: Kind,
) {
    let fixture = Fixture::load(version, kind, Quantization::None);
    fixture.compare(&fixture.forward_given(|given| Times::with_given(TIME, given)), 0, "given");
    let sound_given = |given: &GivenTokens| Times {
        audio: Timesteps::uniform(0.0),
        audio_sigma: 40.0,
        ..Times::with_given(TIME, given)
    };
    fixture.compare(&fixture.forward_given(sound_given), 0, "sound_given");
    let own = |given: &GivenTokens| Times { across: false, ..sound_given(given) };
    fixture.compare(&fixture.forward_given(own), 0, "own_levels");
}

#[rstest]
fn a_video_without_sound_is_one_isolated_from_it(#[values("2.0", "2.3")] version: &str) {
    let fixture = Fixture::load(version, Kind::Float, Quantization::None);
    let transformer = &fixture.transformer;
    let silent = Prompt { video: &fixture.golden["prompt.video"], audio: None, mask: None };
    let context = transformer.context(&[silent], &[POSITIVE], &[]);
    let positions = transformer.positions(&transformer.config().video_coordinates(LATENTS, FPS), None, None);
    let latents = Latents { video: &fixture.golden["video"], audio: None };
    let velocity = transformer.forward(latents, &Times::uniform(TIME), &context, &positions);
    assert!(velocity.audio.is_none());
    let error = relative(&velocity.video.select(0, 0), &fixture.golden["isolated.out.video"]);
    assert!(error <= 1e-4, "{error:.2e}");
}

#[rstest]
fn the_list_of_tensors_is_the_checkpoints(#[values("2.0", "2.3", "2.5", "interleaved")] version: &str) {
    let name = format!("ltx2-transformer-{version}");
    let weights = weights(&name, "transformer", Kind::Float, Quantization::None);
    let checkpoint = weights.checkpoint();
    let theirs: BTreeMap<_, _> = checkpoint
        .names()
        .map(|name| (name.to_owned(), checkpoint.entry(name).expect("is listed").shape.clone()))
        .collect();
    let config = checkpoint.config().expect("config.json");
    assert_eq!(expected_tensors(&config).into_iter().collect::<BTreeMap<_, _>>(), theirs);
}

#[rstest]
fn quantised_weights_stay_close(
    #[values((Quantization::Fp8, 0.1), (Quantization::Nf4, 0.35))] (quantization, bound): (Quantization, f64),
) {
    let dense = Fixture::load("2.3", Kind::BFloat16, Quantization::None);
    let fixture = Fixture::load("2.3", Kind::BFloat16, quantization);
    assert!(fixture.transformer.resident_bytes() < dense.transformer.resident_bytes());
    let velocity = fixture.forward(&fixture.context(&["prompt"], &[POSITIVE]));
    let error = relative(&velocity.video.select(0, 0), &fixture.golden["prompt.out.video"]);
    println!("{quantization}: {error:.2e}");
    assert!(error < bound, "{error:.2e}");
}
