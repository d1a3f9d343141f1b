//! Times the decoding of random latents: `bench_wan_vae FOLDER (f32|bf16) HEIGHT WIDTH LATENT_FRAMES [REPEATS]`, sizes in
//! pixels. Prints the seconds of each repeat, on the clock and of processor time (which other programs disturb less), and
//! the growth of the resident memory while decoding, as JSON. `THREADS` is 2 by default.

#![expect(clippy::disallowed_methods, reason = "the example reads a variable of its own")]

use std::path::Path;
use std::time::Instant;

use tch::{Device, Kind, Tensor};
use videosdgx_tensor::{TensorError, catch_libtorch_errors};
use videosdgx_video::wan_vae::{VaeParts, WanVae};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, kind, height, width, frames, rest @ ..] = arguments.as_slice() else {
        return Err("usage: bench_wan_vae FOLDER (f32|bf16) HEIGHT WIDTH LATENT_FRAMES [REPEATS]".into());
    };
    let kind = if kind == "bf16" { Kind::BFloat16 } else { Kind::Float };
    let repeats: usize = rest.first().map_or(Ok(3), |count| count.parse())?;
    tch::set_num_threads(std::env::var("THREADS").map_or(Ok(2), |count| count.parse())?);
    let vae = WanVae::load(Path::new(folder), VaeParts::Decoder, Device::Cpu, kind)?;
    let factor = vae.config().spatial_factor();
    let size = [
        1,
        vae.config().z_dim,
        frames.parse()?,
        height.parse::<i64>()? / factor,
        width.parse::<i64>()? / factor,
    ];
    let latents = Tensor::randn(size, (Kind::Float, Device::Cpu));
    let before = resident("VmRSS");
    let (mut seconds, mut processor) = (Vec::new(), Vec::new());
    for _ in 0..repeats {
        let (start, used) = (Instant::now(), processor_seconds());
        let mut frames = 0;
        catch_libtorch_errors(|| {
            vae.decode_frames(&latents, None, |_| {
                frames += 1;
                Ok::<_, TensorError>(())
            })
        })?;
        seconds.push(format!("{:.3}", start.elapsed().as_secs_f64()));
        processor.push(format!("{:.3}", processor_seconds() - used));
    }
    let growth = resident("VmHWM").saturating_sub(before) / 1024;
    let (seconds, processor) = (seconds.join(", "), processor.join(", "));
    println!("{{\"seconds\": [{seconds}], \"processor\": [{processor}], \"growth_mib\": {growth}}}");
    Ok(())
}

/// A line of `/proc/self/status`, in KiB.
fn resident(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

/// Time that all threads of this process have run, from `/proc/self/stat`.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    ticks as f64 / 100.0
}
