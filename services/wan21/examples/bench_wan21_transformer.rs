//! Times the transformer of a checkpoint: one line of JSON.
//!
//! ```text
//! bench_wan21_transformer <checkpoint> <bf16|f32> <none|fp8> <threads> <latent frames> <rows> <columns> <steps> [prompt tokens]
//! ```
//!
//! A step is guided (two predictions), as in a generation; the work done once per generation (keys and values of the
//! prompts) is timed separately. `tests/reference/bench_transformer.py` times diffusers on the same files.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use videosdgx_diffusion::normal;
use videosdgx_tensor::{
    Checkpoint, Device, DtypeChoice, Kind, Quantization, Tensor, TensorError, Weights, catch_libtorch_errors,
    resident_bytes, resolve_kind, set_threads, use_passive_waiting,
};
use wan21::transformer::WanTransformer;

fn main() -> Result<(), Box<dyn Error>> {
    use_passive_waiting();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [checkpoint, kind, quantization, numbers @ ..] = arguments.as_slice() else {
        return Err("see the usage at the top of the source file".into());
    };
    let numbers: Vec<i64> = numbers.iter().map(|number| number.parse()).collect::<Result<_, _>>()?;
    let [threads, frames, rows, columns, steps, rest @ ..] = numbers.as_slice() else {
        return Err("threads, latent frames, rows, columns and steps are needed".into());
    };
    set_threads(u16::try_from(*threads)?);
    let kind: Kind = resolve_kind(kind.parse::<DtypeChoice>()?, Device::Cpu);
    let quantization: Quantization = quantization.parse()?;

    let start = Instant::now();
    let files = Arc::new(Checkpoint::open(Path::new(checkpoint).join("transformer"))?);
    let config = files.config()?;
    let weights = Weights::new(files, Device::Cpu, kind, quantization);
    let transformer = WanTransformer::load(&weights, config)?;
    let load_seconds = start.elapsed().as_secs_f64();

    let config = transformer.config();
    let (channels, text) = (config.in_channels, config.text_dim);
    let latents = normal(1, &[1, channels, *frames, *rows, *columns]);
    let tokens = rest.first().copied().unwrap_or(12);
    let (prompt, negative) = (normal(2, &[tokens, text]), normal(3, &[1, text]));
    let start = Instant::now();
    let rope = transformer.rope([*frames, *rows, *columns]);
    let context =
        catch_libtorch_errors(|| Ok::<_, TensorError>(transformer.context(&[&prompt, &negative], None)))?;
    let context_seconds = start.elapsed().as_secs_f64();

    let mut seconds = Vec::new();
    let mut processor = processor_seconds();
    let mut mean = 0.0;
    for step in 0..=*steps {
        let start = Instant::now();
        let output: Tensor = catch_libtorch_errors(|| {
            Ok::<_, TensorError>(transformer.forward(&latents, 999.0 - step as f64, &context, &rope))
        })?;
        // The first warms up.
        match step {
            0 => processor = processor_seconds(),
            _ => seconds.push(start.elapsed().as_secs_f64()),
        }
        mean = f64::try_from(output.abs().mean(Kind::Double))?;
    }
    seconds.sort_by(f64::total_cmp);
    let processor = (processor_seconds() - processor) / *steps as f64;
    println!(
        "{{\"load_seconds\":{load_seconds:.3},\"context_seconds\":{context_seconds:.4},\"step_seconds\":{:.4},\
         \"fastest_seconds\":{:.4},\"processor_seconds\":{processor:.3},\"weights_bytes\":{},\"resident_bytes\":{},\"mean_absolute\":{mean:.4}}}",
        seconds[seconds.len() / 2],
        seconds[0],
        transformer.resident_bytes(),
        resident_bytes(),
    );
    Ok(())
}

/// Seconds of all threads, user and system: other processes do not count.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The fields after the name in brackets; user and system time are the 12th and 13th of them, in hundredths.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}
