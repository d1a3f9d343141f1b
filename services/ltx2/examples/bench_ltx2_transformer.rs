//! Times the transformer of a checkpoint: one line of JSON.
//!
//! ```text
//! bench_ltx2_transformer <checkpoint> <bf16|f32> <none|fp8|nf4|nvfp4> <threads> <latent frames> <rows> <columns> <steps> <branches> [prompt tokens]
//! ```
//!
//! `branches`: 1 (distilled), 2 (with guidance by a negative prompt), or 4 (perturbed in block 2 and isolated, too). The
//! work done once per generation (keys and values of the prompts where they do not depend on the noise, rotary angles)
//! is timed separately. `tests/reference/bench_ltx2_transformer.py` writes a checkpoint of the official sizes cut to a
//! few blocks, and times diffusers on the same files.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ltx2::transformer::{Branch, Latents, LtxTransformer, Prompt, Times};
use videosdgx_tensor::{
    Checkpoint, Device, DtypeChoice, Kind, Quantization, Tensor, TensorError, Weights, catch_libtorch_errors,
    resident_bytes, resolve_kind, set_threads, use_passive_waiting,
};

const FPS: f64 = 24.0;
/// Frames of the video for each of the latents but the first.
const LATENT_FRAMES: i64 = 8;
const PERTURBED_BLOCKS: [usize; 1] = [2];

fn main() -> Result<(), Box<dyn Error>> {
    use_passive_waiting();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [checkpoint, kind, quantization, numbers @ ..] = arguments.as_slice() else {
        return Err("see the usage at the top of the source file".into());
    };
    let numbers: Vec<i64> = numbers.iter().map(|number| number.parse()).collect::<Result<_, _>>()?;
    let [threads, frames, rows, columns, steps, branches, rest @ ..] = numbers.as_slice() else {
        return Err("threads, latent frames, rows, columns, steps and branches are needed".into());
    };
    set_threads(u16::try_from(*threads)?);
    let kind: Kind = resolve_kind(kind.parse::<DtypeChoice>()?, Device::Cpu);
    let quantization: Quantization = quantization.parse()?;

    let start = Instant::now();
    let files = Arc::new(Checkpoint::open(Path::new(checkpoint).join("transformer"))?);
    let config = files.config()?;
    let weights = Weights::new(files, Device::Cpu, kind, quantization);
    let transformer = LtxTransformer::load(&weights, config)?;
    let load_seconds = start.elapsed().as_secs_f64();

    let config = transformer.config();
    let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
    let seconds = ((frames - 1) * LATENT_FRAMES + 1) as f64 / FPS;
    let sound = (seconds * config.audio_latents_per_second()).round() as i64;
    let video = random(&[1, frames * rows * columns, config.in_channels]);
    let audio = random(&[1, sound, config.audio_in_channels]);
    let tokens = rest.first().copied().unwrap_or(1024);
    let widths = config.prompt_widths();
    let texts: Vec<[Tensor; 2]> = (0..2).map(|_| widths.map(|width| random(&[tokens, width]))).collect();
    let all = [
        Branch::default(),
        Branch { prompt: 1, ..Branch::default() },
        Branch { perturbed: true, ..Branch::default() },
        Branch { isolated: true, ..Branch::default() },
    ];
    let branches = all.get(..usize::try_from(*branches)?).ok_or("at most 4 branches")?;
    let prompts: Vec<Prompt<'_>> = texts[..branches.len().min(2)]
        .iter()
        .map(|[video, audio]| Prompt { video, audio: Some(audio), mask: None })
        .collect();

    let start = Instant::now();
    let (context, positions) = catch_libtorch_errors(|| {
        let coordinates = config.video_coordinates([*frames, *rows, *columns], FPS);
        let positions = transformer.positions(&coordinates, Some(&config.audio_coordinates(sound)), None);
        Ok::<_, TensorError>((transformer.context(&prompts, branches, &PERTURBED_BLOCKS), positions))
    })?;
    let context_seconds = start.elapsed().as_secs_f64();

    let latents = Latents { video: &video, audio: Some(&audio) };
    let mut seconds = Vec::new();
    let mut mean = 0.0;
    for step in 0..=*steps {
        let times = Times::uniform(999.0 - step as f64);
        let start = Instant::now();
        let velocity = catch_libtorch_errors(|| {
            Ok::<_, TensorError>(transformer.forward(latents, &times, &context, &positions))
        })?;
        // The first warms up.
        if step > 0 {
            seconds.push(start.elapsed().as_secs_f64());
        }
        mean = f64::try_from(velocity.video.abs().mean(Kind::Double))?;
    }
    seconds.sort_by(f64::total_cmp);
    let step_seconds = seconds.get(seconds.len() / 2).ok_or("at least one step is needed")?;
    println!(
        "{{\"load_seconds\":{load_seconds:.3},\"context_seconds\":{context_seconds:.4},\"step_seconds\":{step_seconds:.4},\
         \"fastest_seconds\":{:.4},\"weights_bytes\":{},\"resident_bytes\":{},\"mean_absolute\":{mean:.4}}}",
        seconds[0],
        transformer.resident_bytes(),
        resident_bytes(),
    );
    Ok(())
}
