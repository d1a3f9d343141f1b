//! Makes one video and prints how long each stage took and how much memory it needed, as JSON.
//!
//! `measure-video CHECKPOINT bf16|f32 WIDTH HEIGHT FRAMES STEPS [REPEATS] [none|fp8] [whole|staged]`
//!
//! It computes on the device that `VIDEOSDGX_DEVICE` names (default: `cpu`). On a GPU the report has its used memory in MB before the load,
//! with the model loaded, after the run, and after the model was dropped.
//!
//! `benchmarks/peer_diffusers.py` does the same with diffusers: same arguments, same keys, same thread count (`OMP_NUM_THREADS`).

use std::{collections::BTreeMap, path::Path, time::Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use videosdgx_benchmarks::{device, device_memory_mb, peak_memory_mb, reset_peak_memory};
use videosdgx_diffusion::{
    Generation, Pipeline, PipelineError, PipelineOptions, Progress, Residency, Summary, normal,
};
use videosdgx_tensor::{DtypeChoice, Quantization, release_memory, resolve_kind};
use wan21::pipeline::WanPipeline;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |index: usize| arguments.get(index).map(String::as_str);
    let number = |index: usize| -> Result<u32> {
        Ok(argument(index).context("see the usage at the beginning of the source")?.parse()?)
    };
    let checkpoint = Path::new(argument(0).context("see the usage at the beginning of the source")?);
    let chosen = device()?;
    let kind = resolve_kind(argument(1).context("bf16 or f32")?.parse::<DtypeChoice>()?, chosen.device);
    let repeats = argument(6).map_or(Ok(1), str::parse::<u32>)?;
    let options = PipelineOptions {
        quantization: argument(7).map_or(Ok(Quantization::None), str::parse)?,
        residency: if argument(8) == Some("staged") { Residency::Staged } else { Residency::Whole },
        ..PipelineOptions::new(chosen.device, kind)
    };
    let generation = Generation {
        prompt: "a red circle moving right on a black background".to_owned(),
        negative_prompt: String::new(),
        first_frame: None,
        width: number(2)?,
        height: number(3)?,
        frames: number(4)?,
        steps: number(5)?,
        guidance: 4.0,
        seed: 0,
        ..Generation::default()
    };
    let mut report = Report::default();
    let used_before = device_memory_mb(&chosen);
    let mut pipeline = report.stage("load", || WanPipeline::load(checkpoint, options))?;
    report.notes.insert("resident_mb", json!(pipeline.resident_bytes() as f64 / 1e6));
    let used_loaded = device_memory_mb(&chosen);
    for _ in 0..repeats {
        let mut summary = Summary::default();
        let conditions = report.stage("encode", || pipeline.encode(&generation, &mut summary))?;
        let noise = normal(generation.seed, &pipeline.latent_shape(&generation));
        let mut marks = Vec::new();
        let latents = report.stage("denoise", || {
            pipeline.denoise_from::<PipelineError>(&noise, &conditions, &generation, |progress| {
                if matches!(progress, Progress::Denoising { .. }) {
                    marks.push(Instant::now());
                }
                Ok(())
            })
        })?;
        let mut steps: Vec<f64> = marks.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
        steps.sort_by(f64::total_cmp);
        report.keep_best("step_seconds", steps[steps.len() / 2]);
        report
            .stage("decode", || pipeline.decode_latents::<PipelineError>(&latents, |_| Ok(()), |_| Ok(())))?;
        report.notes.insert("transformer_mb", json!(pipeline.transformer_bytes() as f64 / 1e6));
    }
    let used_run = device_memory_mb(&chosen);
    drop(pipeline);
    release_memory();
    report.notes.insert("device", json!(chosen.to_string()));
    let used = json!({
        "before": used_before,
        "loaded": used_loaded,
        "run": used_run,
        "dropped": device_memory_mb(&chosen),
    });
    report.notes.insert("device_memory_mb", used);
    println!("{}", report.json());
    Ok(())
}

/// Best seconds and highest resident memory of each stage.
#[derive(Default)]
struct Report {
    seconds: BTreeMap<String, f64>,
    peak_mb: BTreeMap<String, f64>,
    notes: BTreeMap<&'static str, Value>,
}

impl Report {
    fn stage<T, E>(&mut self, name: &str, action: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        reset_peak_memory();
        let start = Instant::now();
        let result = action()?;
        self.keep_best(&format!("{name}_seconds"), start.elapsed().as_secs_f64());
        self.peak_mb.insert(name.to_owned(), peak_memory_mb());
        Ok(result)
    }

    fn keep_best(&mut self, key: &str, seconds: f64) {
        let best = self.seconds.entry(key.to_owned()).or_insert(seconds);
        *best = best.min(seconds);
    }

    fn json(&self) -> Value {
        let mut all = json!({ "peak_mb": self.peak_mb });
        for (key, seconds) in &self.seconds {
            all[key] = json!(seconds);
        }
        for (key, value) in &self.notes {
            all[*key] = value.clone();
        }
        all
    }
}
