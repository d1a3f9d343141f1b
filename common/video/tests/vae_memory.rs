//! The memory for decoding does not grow with the length of the video. Alone in its program: it watches the process.

use std::path::PathBuf;

use tch::{Device, Kind, Tensor};
use videosdgx_tensor::{TensorError, guarded};
use videosdgx_video::vae::{Tiling, VaeParts, WanVae};

/// A line of `/proc/self/status`, in KiB.
fn resident(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a line of /proc/self/status");
    let line = status.lines().find(|line| line.starts_with(name)).expect("a line of /proc/self/status");
    line.split_whitespace()
        .nth(1)
        .expect("a line of /proc/self/status")
        .parse()
        .expect("a line of /proc/self/status")
}

/// Most KiB that decoding `latent_frames` took beyond what was there before.
fn growth(vae: &WanVae, latent_frames: i64, tiling: Option<Tiling>) -> u64 {
    let latents = Tensor::randn([1, 4, latent_frames, 32, 32], (Kind::Float, Device::Cpu));
    // Sets the high-water mark to what is resident now.
    std::fs::write("/proc/self/clear_refs", "5").expect("Linux");
    let before = resident("VmRSS");
    let mut frames = 0;
    guarded(|| {
        vae.decode_frames(&latents, tiling, |frame| {
            assert_eq!(frame.len(), 256 * 256 * 3);
            frames += 1;
            Ok::<_, TensorError>(())
        })
    })
    .expect("the latents can be decoded");
    assert_eq!(frames, vae.config().frames(latent_frames));
    let growth = resident("VmHWM") - before;
    // Gives what the allocator kept back, for the next measurement to start from the same.
    videosdgx_tensor::release_memory();
    growth
}

#[test]
fn four_times_the_frames_need_the_same_memory() {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../tests/fixtures/vae/vae"].iter().collect();
    // Threads only wait for each other on pictures this small.
    tch::set_num_threads(1);
    let vae = WanVae::load(&folder, VaeParts::Decoder, Device::Cpu, Kind::Float).unwrap();
    for tiling in [None, Some(Tiling { size: [160; 2], stride: [128; 2] })] {
        growth(&vae, 2, tiling);
        let (short, long) = (growth(&vae, 3, tiling), growth(&vae, 12, tiling));
        println!("{tiling:?}: {short} KiB for 9 frames, {long} KiB for 45");
        assert!(short > 10_000, "this measures nothing: {short} KiB");
        assert!((long as f64) < 1.15 * short as f64, "{long} KiB for 45 frames, {short} KiB for 9");
    }
}
