//! The memory for decoding does not grow with the length of the video, and is at most what is declared.

#![expect(clippy::disallowed_methods, reason = "tests read variables of their own")]

#[path = "../../../tests/fixtures/hashed.rs"]
mod hashed;

use std::path::PathBuf;
use std::process::Command;

use rstest::rstest;
use tch::{Device, Kind, Tensor};
use videosdgx_tensor::{TensorError, catch_libtorch_errors, read_json};
use videosdgx_video::ltx2_vae::{Ltx2Vae, Ltx2VaeConfig};
use videosdgx_video::wan_vae::{Tiling, VaeParts, WanVae};

/// Tells a child process what to measure: `wan|ltx2 whole|tiled LATENT_FRAMES`.
const MEASUREMENT: &str = "VAE_MEMORY_MEASUREMENT";
/// Side of the pictures.
const PIXELS: [(&str, i64); 2] = [("wan", 128), ("ltx2", 256)];

fn fixtures() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../tests/fixtures"].iter().collect()
}

fn ltx2_config() -> PathBuf {
    fixtures().join("ltx2-vae/variants/ltx-2.0/config.json")
}

fn tiling(model: &str, tiled: &str) -> Option<Tiling> {
    let tiles = match model {
        "wan" => Tiling { size: [96; 2], stride: [72; 2] },
        _ => Tiling { size: [192; 2], stride: [128; 2] },
    };
    (tiled == "tiled").then_some(tiles)
}

/// A line of `/proc/self/status`, in KiB.
fn resident(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name));
    let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    number.expect("a line of /proc/self/status")
}

/// Either autoencoder.
enum Vae {
    Wan(Box<WanVae>),
    Ltx2(Box<Ltx2Vae>),
}

impl Vae {
    fn load(model: &str) -> Self {
        if model == "wan" {
            let folder = fixtures().join("vae/vae");
            let vae = WanVae::load(&folder, VaeParts::Decoder, Device::Cpu, Kind::Float);
            return Self::Wan(Box::new(vae.expect("loads")));
        }
        let folder = tempfile::tempdir().expect("temporary folder");
        std::fs::copy(ltx2_config(), folder.path().join("config.json")).expect("copies");
        let config: Ltx2VaeConfig = read_json(&ltx2_config()).expect("reads");
        let tensors = config.expected_tensors(VaeParts::Decoder).expect("supported");
        hashed::write_hashed(&folder.path().join("model.safetensors"), &tensors, |_, value| value);
        Self::Ltx2(Box::new(
            Ltx2Vae::load(folder.path(), VaeParts::Decoder, Device::Cpu, Kind::Float).expect("loads"),
        ))
    }

    /// Peak growth in KiB while decoding `latent_frames`.
    fn growth(&self, side: i64, latent_frames: i64, tiling: Option<Tiling>) -> u64 {
        let (channels, factor, want) = match self {
            Self::Wan(vae) => (4, 8, vae.config().frames(latent_frames)),
            Self::Ltx2(vae) => (16, 32, vae.config().frames(latent_frames)),
        };
        let shape = [1, channels, latent_frames, side / factor, side / factor];
        let latents = Tensor::randn(shape, (Kind::Float, Device::Cpu));
        // Sets the high-water mark to what is resident now.
        std::fs::write("/proc/self/clear_refs", "5").expect("Linux");
        let before = resident("VmRSS");
        let mut frames = 0;
        let count = |frame: &[u8]| {
            assert_eq!(frame.len() as i64, side * side * 3);
            frames += 1;
            Ok::<_, TensorError>(())
        };
        catch_libtorch_errors(|| match self {
            Self::Wan(vae) => vae.decode_frames(&latents, tiling, count),
            Self::Ltx2(vae) => vae.decode_frames(&latents, tiling, count),
        })
        .expect("the latents can be decoded");
        assert_eq!(frames, want);
        resident("VmHWM") - before
    }
}

/// The measurement, in its own process. Does nothing without the environment variable.
#[test]
fn measurement() {
    let Ok(measurement) = std::env::var(MEASUREMENT) else {
        return;
    };
    let words: Vec<&str> = measurement.split(' ').collect();
    let &[model, tiled, latent_frames] = words.as_slice() else { panic!("not a measurement: {measurement}") };
    let (_, side) = PIXELS.into_iter().find(|(name, _)| *name == model).expect("wan or ltx2");
    // Threads only wait for each other on pictures this small.
    tch::set_num_threads(1);
    let vae = Vae::load(model);
    // libtorch's code and oneDNN's kernels come into memory with their first use.
    vae.growth(side, 2, tiling(model, tiled));
    println!("growth {} KiB", vae.growth(side, latent_frames.parse().unwrap(), tiling(model, tiled)));
}

/// Runs `measurement` in a child process whose allocator maps every large tensor separately, so that resident memory is
/// memory in use, not memory that the allocator retains.
fn measured(measurement: &str) -> f64 {
    let program = std::env::current_exe().expect("this program");
    let output = Command::new(program)
        .args(["--exact", "measurement", "--nocapture"])
        .env(MEASUREMENT, measurement)
        .env("MALLOC_MMAP_THRESHOLD_", "65536")
        .output()
        .expect("this program once more");
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    let growth = output.split("growth ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    growth.unwrap_or_else(|| panic!("no measurement: {output}"))
}

#[rstest]
fn four_times_the_frames_need_the_same_memory(
    #[values(("wan", 3), ("ltx2", 24))] measured_model: (&str, i64),
    #[values("whole", "tiled")] tiled: &str,
) {
    let (model, latent_frames) = measured_model;
    let [short, long] = [1, 4].map(|times| measured(&format!("{model} {tiled} {}", times * latent_frames)));
    println!(
        "{model} {tiled}: {short} KiB for {latent_frames} latent frames, {long} KiB for four times as many"
    );
    assert!(short > if model == "wan" { 10_000.0 } else { 4_000.0 }, "this measures nothing: {short} KiB");
    assert!(long < 1.15 * short, "{model} {tiled}: {long} KiB for four times the frames, {short} KiB before");
    if model == "ltx2" {
        let config: Ltx2VaeConfig = read_json(&ltx2_config()).unwrap();
        let declared = config.decode_bytes([256; 2], tiling(model, tiled), Kind::Float, Device::Cpu).unwrap()
            as f64
            / 1024.0;
        println!("declared: {declared} KiB");
        assert!((long..4.0 * long).contains(&declared), "{declared} KiB are declared, {long} KiB needed");
    }
}
