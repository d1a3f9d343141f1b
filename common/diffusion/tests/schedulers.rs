//! The schedulers against diffusers: sigmas, timesteps and trajectories (`tests/reference/schedulers.py`).

use std::collections::HashMap;
use std::path::PathBuf;

use tch::{Kind, Tensor};
use videosdgx_diffusion::schedulers::SchedulerConfig;

const STEPS: [usize; 4] = [1, 2, 10, 30];
const TOLERANCE: f64 = 1e-4;

fn folder(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../tests/fixtures/schedulers", name].iter().collect()
}

fn relative_error(got: &Tensor, want: &Tensor) -> f64 {
    assert_eq!(got.size(), want.size());
    let norm = |x: &Tensor| f64::try_from(x.to_kind(Kind::Double).norm()).expect("a number");
    norm(&(got - want)) / norm(want)
}

/// The artificial model of the reference script.
fn velocity(sample: &Tensor, timestep: f64) -> Tensor {
    (sample * 1.3 + timestep / 1000.0).tanh() - sample * 0.2
}

/// For schedulers that are not stochastic.
fn no_noise(_shape: &[i64]) -> Tensor {
    panic!("this scheduler does not use noise")
}

fn check(name: &str) {
    let folder = folder(name);
    let golden =
        Tensor::read_safetensors(folder.join("golden.safetensors")).expect("the fixture can be read");
    let golden: HashMap<String, Tensor> = golden.into_iter().collect();
    let config = SchedulerConfig::read(&folder).expect("the fixture can be read");
    for steps in STEPS {
        let mut scheduler = config.start(steps);
        for (got, key) in [(scheduler.sigmas(), "sigmas"), (scheduler.timesteps(), "timesteps")] {
            let want = &golden[&format!("{key}_{steps}")];
            let error = relative_error(&Tensor::from_slice(got), &want.to_kind(Kind::Double));
            assert!(error < 1e-6, "{name}: {key} of {steps} steps: {error:e}");
        }
        let step_noise = golden.get(&format!("step_noise_{steps}"));
        let mut step = 0;
        let mut noise = |shape: &[i64]| {
            let noise = step_noise.expect("only stochastic schedulers use noise").get(step);
            assert_eq!(noise.size(), shape);
            step += 1;
            noise
        };
        let mut sample = golden["noise"].shallow_clone();
        let mut samples = Vec::new();
        for timestep in scheduler.timesteps().to_vec() {
            sample = scheduler.step(&velocity(&sample, timestep), &sample, &mut noise);
            samples.push(sample.shallow_clone());
        }
        let last = &samples[samples.len().saturating_sub(10)..];
        let error = relative_error(&Tensor::stack(last, 0), &golden[&format!("samples_{steps}")]);
        println!("{name}, {steps} steps: {error:.1e}");
        assert!(error < TOLERANCE, "{name}: trajectory of {steps} steps: {error:e}");
        assert!(
            step_noise.is_none_or(|stored| stored.size()[0] == step),
            "{name}: noise of every step is used"
        );
        // After the last step the sample does not change.
        let after = scheduler.step(&velocity(&sample, 0.0), &sample, &mut no_noise);
        assert_eq!(relative_error(&after, &sample), 0.0);
    }
}

#[test]
fn unipc_follows_the_reference() {
    for name in ["unipc-shift3", "unipc-shift5", "unipc-order1", "unipc-order3", "unipc-order3-bh1"] {
        check(name);
    }
}

#[test]
fn euler_follows_the_reference() {
    check("euler-shift3");
    check("euler-shift1");
}

#[test]
fn euler_ancestral_follows_the_reference() {
    check("euler-ancestral-shift3");
    check("euler-ancestral-shift1");
}

#[test]
fn schedules_of_given_sigmas_follow_the_reference() {
    for name in [
        "euler-dynamic",
        "euler-dynamic-linear",
        "euler-dynamic-ancestral",
        "euler-distilled",
        "euler-terminal",
    ] {
        let golden = Tensor::read_safetensors(folder(name).join("golden.safetensors")).unwrap();
        let golden: HashMap<String, Tensor> = golden.into_iter().collect();
        let start = Vec::<f64>::try_from(&golden["start"]).unwrap();
        let tokens = i64::try_from(&golden["tokens"]).unwrap();
        let scheduler =
            SchedulerConfig::read(&folder(name)).unwrap().start_from(&start, tokens).expect("not UniPC");
        for (got, key) in [(scheduler.sigmas(), "sigmas"), (scheduler.timesteps(), "timesteps")] {
            let error = relative_error(&Tensor::from_slice(got), &golden[key].to_kind(Kind::Double));
            assert!(error < 1e-6, "{name}: {key}: {error:e}");
        }
    }
}

#[test]
fn the_shift_can_be_overridden() {
    let shifted = SchedulerConfig::read(&folder("euler-shift1")).unwrap().with_shift(3.0).start(10);
    let read = SchedulerConfig::read(&folder("euler-shift3")).unwrap().start(10);
    assert_eq!(shifted.sigmas(), read.sigmas());
}

#[test]
fn samples_keep_their_type() {
    let config = SchedulerConfig::read(&folder("unipc-shift3")).unwrap();
    let mut scheduler = config.start(4);
    let noise = Tensor::randn([1, 2, 3, 4, 4], (Kind::Float, tch::Device::Cpu));
    let half = noise.to_kind(Kind::BFloat16);
    assert_eq!(scheduler.step(&half, &noise, &mut no_noise).kind(), Kind::Float);
    assert_eq!(scheduler.step(&noise, &half, &mut no_noise).kind(), Kind::BFloat16);
}
