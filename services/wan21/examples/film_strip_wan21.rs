//! Makes a video with a checkpoint and puts its frames side by side into one picture, to compare a change by eye.
//!
//! ```text
//! film_strip_wan21 <checkpoint> <bf16|f32> <none|fp8> <seed> <strip.png> <prompt…>
//! ```

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use videosdgx_diffusion::{Generation, Pipeline, PipelineError, PipelineOptions, Progress, generate};
use videosdgx_tensor::{Device, DtypeChoice, resolve_kind, use_passive_waiting};
use wan21::pipeline::WanPipeline;

const SIDE: u32 = 64;
const FRAMES: u32 = 17;

fn main() -> Result<(), Box<dyn Error>> {
    use_passive_waiting();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [checkpoint, kind, quantization, seed, output, prompts @ ..] = arguments.as_slice() else {
        return Err("see the usage at the top of the source file".into());
    };
    let kind = resolve_kind(kind.parse::<DtypeChoice>()?, Device::Cpu);
    let options =
        PipelineOptions { quantization: quantization.parse()?, ..PipelineOptions::new(Device::Cpu, kind) };
    let start = Instant::now();
    let mut pipeline = WanPipeline::load(Path::new(checkpoint), options)?;
    println!("loaded in {:.2} s, {} bytes", start.elapsed().as_secs_f64(), pipeline.resident_bytes());
    let mut strip = image::RgbImage::new(SIDE * FRAMES, SIDE * prompts.len() as u32);
    for (row, prompt) in prompts.iter().enumerate() {
        let generation = Generation {
            prompt: prompt.clone(),
            negative_prompt: String::new(),
            first_frame: None,
            width: SIDE,
            height: SIDE,
            frames: FRAMES,
            steps: 20,
            guidance: 4.0,
            seed: seed.parse()?,
            ..Generation::default()
        };
        let (start, mut denoised, mut frames) = (Instant::now(), 0.0, Vec::new());
        let report = |progress| {
            if matches!(progress, Progress::Decoding { done: 0, .. }) {
                denoised = start.elapsed().as_secs_f64();
            }
            Ok::<_, PipelineError>(())
        };
        let summary = generate(&mut pipeline, &generation, None, report, |frame| {
            frames.push(frame.to_vec());
            Ok(())
        })?;
        println!(
            "{prompt}: denoised after {denoised:.2} s, done after {:.2} s, {summary:?}",
            start.elapsed().as_secs_f64()
        );
        for (column, frame) in frames.into_iter().enumerate() {
            let frame = image::RgbImage::from_raw(SIDE, SIDE, frame).ok_or("a frame of another size")?;
            let (x, y) = (column as i64 * i64::from(SIDE), row as i64 * i64::from(SIDE));
            image::imageops::replace(&mut strip, &frame, x, y);
        }
    }
    strip.save(output)?;
    Ok(())
}
