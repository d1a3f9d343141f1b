//! Times the vision tower of a checkpoint: one line of JSON.
//!
//! ```text
//! bench_vision <checkpoint> <bf16|f32> <threads> <rows> <columns> [repeats]
//! ```
//!
//! Rows and columns are counted in patches, both even. `tests/reference/bench_vision.py` writes a checkpoint of the
//! official shape and measures transformers on it.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use videosdgx_decoder::vision::{VisionConfig, VisionTower};
use videosdgx_tensor::{
    Checkpoint, Device, Kind, Quantization, Tensor, TensorError, Weights, catch_libtorch_errors, read_json,
    set_threads, use_passive_waiting,
};

fn main() -> Result<(), Box<dyn Error>> {
    use_passive_waiting();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, kind, numbers @ ..] = arguments.as_slice() else {
        return Err("see the top of the file for what to give".into());
    };
    let kind = match kind.as_str() {
        "bf16" => Kind::BFloat16,
        "f32" => Kind::Float,
        _ => return Err("bf16 or f32".into()),
    };
    let numbers: Vec<usize> = numbers.iter().map(|number| number.parse()).collect::<Result<_, _>>()?;
    let [threads, rows, columns, rest @ ..] = numbers.as_slice() else {
        return Err("threads, rows and columns are needed".into());
    };
    set_threads(u16::try_from(*threads)?);

    let start = Instant::now();
    let config: serde_json::Value = read_json(&Path::new(folder).join("config.json"))?;
    let config = VisionConfig::parse(&config["vision_config"])?;
    let checkpoint = Arc::new(Checkpoint::open(folder)?);
    let weights = Weights::new(checkpoint, Device::Cpu, kind, Quantization::None);
    let tower = VisionTower::load(&weights.at("model.visual"), &config)?;
    let load_seconds = start.elapsed().as_secs_f64();

    let count = (rows * columns) as i64 * config.patch_values();
    let patches =
        Tensor::linspace(-1.0, 1.0, count, (Kind::Float, Device::Cpu)).view([-1, config.patch_values()]);
    let repeats = rest.first().copied().unwrap_or(5);
    let mut seconds = Vec::new();
    let mut mean = 0.0;
    for repeat in 0..=repeats {
        let start = Instant::now();
        let features =
            catch_libtorch_errors(|| Ok::<_, TensorError>(tower.forward(&patches, &[[1, *rows, *columns]])))?;
        // The first run is for warming up.
        if repeat > 0 {
            seconds.push(start.elapsed().as_secs_f64());
        }
        mean = f64::try_from(features.merged.to_kind(Kind::Double).abs().mean(Kind::Double))?;
    }
    seconds.sort_by(f64::total_cmp);
    let result = serde_json::json!({
        "load_seconds": load_seconds,
        "seconds": seconds.get(seconds.len() / 2),
        "fastest_seconds": seconds.first(),
        "mean": mean,
        "peak_bytes": peak_bytes(),
    });
    println!("{result}");
    Ok(())
}

/// Largest resident size of this process in bytes.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
