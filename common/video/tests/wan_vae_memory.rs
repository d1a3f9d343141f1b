//! The memory for decoding does not grow with the length of the video.

#![expect(clippy::disallowed_methods, reason = "tests read variables of their own")]

use std::path::PathBuf;
use std::process::Command;

use tch::{Device, Kind, Tensor};
use videosdgx_tensor::{TensorError, catch_libtorch_errors};
use videosdgx_video::wan_vae::{Tiling, VaeParts, WanVae};

/// Tells a child process what to measure: `LATENT_FRAMES` or `LATENT_FRAMES tiled`.
const MEASUREMENT: &str = "VAE_MEMORY_MEASUREMENT";

/// A line of `/proc/self/status`, in KiB.
fn resident(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name));
    let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    number.expect("a line of /proc/self/status")
}

/// Peak growth in KiB while decoding `latent_frames`.
fn growth(vae: &WanVae, latent_frames: i64, tiling: Option<Tiling>) -> u64 {
    let latents = Tensor::randn([1, 4, latent_frames, 16, 16], (Kind::Float, Device::Cpu));
    // Sets the high-water mark to what is resident now.
    std::fs::write("/proc/self/clear_refs", "5").expect("Linux");
    let before = resident("VmRSS");
    let mut frames = 0;
    catch_libtorch_errors(|| {
        vae.decode_frames(&latents, tiling, |frame| {
            assert_eq!(frame.len(), 128 * 128 * 3);
            frames += 1;
            Ok::<_, TensorError>(())
        })
    })
    .expect("the latents can be decoded");
    assert_eq!(frames, vae.config().frames(latent_frames));
    resident("VmHWM") - before
}

/// The measurement, in its own process. Does nothing without the environment variable.
#[test]
fn measurement() {
    let Ok(measurement) = std::env::var(MEASUREMENT) else {
        return;
    };
    let (latent_frames, tiled) = measurement.split_once(' ').unwrap_or((&measurement, ""));
    let tiling = (tiled == "tiled").then_some(Tiling { size: [96; 2], stride: [72; 2] });
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../tests/fixtures/vae/vae"].iter().collect();
    // Threads only wait for each other on pictures this small.
    tch::set_num_threads(1);
    let vae = WanVae::load(&folder, VaeParts::Decoder, Device::Cpu, Kind::Float).unwrap();
    // libtorch's code and oneDNN's kernels come into memory with their first use.
    growth(&vae, 2, tiling);
    println!("growth {} KiB", growth(&vae, latent_frames.parse().unwrap(), tiling));
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

#[test]
fn four_times_the_frames_need_the_same_memory() {
    for tiled in ["", " tiled"] {
        let [short, long] = [3, 12].map(|latent_frames| measured(&format!("{latent_frames}{tiled}")));
        println!("{short} KiB for 9 frames, {long} KiB for 45{tiled}");
        assert!(short > 10_000.0, "this measures nothing: {short} KiB");
        assert!(long < 1.15 * short, "{long} KiB for 45 frames{tiled}, {short} KiB for 9");
    }
}
