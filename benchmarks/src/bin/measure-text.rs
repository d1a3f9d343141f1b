//! Loads a language model, computes a prompt and some tokens, and prints time and memory as JSON.
//!
//! `measure-text CHECKPOINT [auto|bf16|f32] [none|fp8|nf4|nvfp4|int4] [PROMPT] [DECODE] [SEQUENCES]`
//!
//! It computes on the device that `VIDEOSDGX_DEVICE` names (default: `cpu`). On a GPU the report has its used memory in MB before the load,
//! with the model loaded, after the run, and after the model was dropped.
//!
//! `tests/reference/full_size_text_peer.py` does the same with transformers: same arguments, same keys, same thread count (`OMP_NUM_THREADS`).

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use videosdgx_benchmarks::{device, device_memory_mb, peak_memory_mb, reset_peak_memory};
use videosdgx_decoder::Source;
use videosdgx_decoder_api::{BLOCK_TOKENS, BlockId, Decoder, LogitsRequest, Segment};
use videosdgx_tensor::{DtypeChoice, Quantization, release_memory, use_passive_waiting};

/// Most prompt tokens of a step, as in the engine.
const CHUNK: usize = 512;

fn main() -> Result<()> {
    use_passive_waiting();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |index: usize| arguments.get(index).map(String::as_str);
    let number = |index: usize, default: usize| argument(index).map_or(Ok(default), str::parse::<usize>);
    let checkpoint = argument(0).context("see the usage at the beginning of the source")?;
    let dtype = argument(1).map_or(Ok(DtypeChoice::Auto), str::parse::<DtypeChoice>)?;
    let quantization = argument(2).map_or(Ok(Quantization::None), str::parse::<Quantization>)?;
    let (prompt, decode, sequences) = (number(3, 512)?, number(4, 32)?, number(5, 1)?);
    ensure!(prompt > 0 && sequences > 0, "a prompt and a sequence are needed");

    let chosen = device()?;
    let used_before = device_memory_mb(&chosen);
    let start = Instant::now();
    let source = Source::open(checkpoint)?;
    let options = source.options(chosen.device, [dtype, DtypeChoice::Auto], quantization);
    let (need, format, parameters) = (source.memory(&options), source.format(&options), source.parameters());
    let mut model = source.load(&options)?;
    let load_seconds = start.elapsed().as_secs_f64();
    let load_peak_mb = peak_memory_mb();
    let used_loaded = device_memory_mb(&chosen);
    reset_peak_memory();

    let blocks = (prompt + decode).div_ceil(BLOCK_TOKENS);
    model.resize_cache(blocks * sequences)?;
    let tables: Vec<Vec<BlockId>> = (0..sequences)
        .map(|index| (0..blocks).map(|block| (index * blocks + block) as BlockId).collect())
        .collect();
    let vocab = model.shape().vocab;
    let tokens: Vec<u32> = (0..prompt).map(|index| ((index * 7919 + 13) % vocab) as u32).collect();

    let start = Instant::now();
    let mut next = vec![0u32; sequences];
    for (index, blocks) in tables.iter().enumerate() {
        for first in (0..prompt).step_by(CHUNK) {
            let last = (first + CHUNK).min(prompt);
            let logits = if last == prompt { LogitsRequest::Last } else { LogitsRequest::None };
            let segment = Segment { tokens: &tokens[first..last], start: first, blocks, images: &[], logits };
            let logits = model.step(&[segment])?;
            if last == prompt {
                next[index] = most_likely(logits.row(0));
            }
        }
    }
    let prefill_seconds = start.elapsed().as_secs_f64();

    let start = Instant::now();
    for step in 0..decode {
        let segments: Vec<Segment<'_>> = tables
            .iter()
            .zip(&next)
            .map(|(blocks, token)| Segment {
                tokens: std::slice::from_ref(token),
                start: prompt + step,
                blocks,
                images: &[],
                logits: LogitsRequest::Last,
            })
            .collect();
        let logits = model.step(&segments)?;
        next = (0..sequences).map(|row| most_likely(logits.row(row))).collect();
    }
    let decode_seconds = start.elapsed().as_secs_f64();
    let (weight_bytes, used_run) = (model.weight_bytes(), device_memory_mb(&chosen));
    drop(model);
    release_memory();
    let rate = |tokens: usize, seconds: f64| tokens as f64 / seconds.max(1e-9);
    println!(
        "{}",
        json!({
            "device": chosen.to_string(),
            "device_memory_mb": {
                "before": used_before,
                "loaded": used_loaded,
                "run": used_run,
                "dropped": device_memory_mb(&chosen),
            },
            "format": format,
            "parameters": parameters,
            "load_seconds": load_seconds,
            "load_peak_mb": load_peak_mb,
            "weights_mb": weight_bytes as f64 / 1e6,
            "declared_peak_mb": need.peak() as f64 / 1e6,
            "run_peak_mb": peak_memory_mb(),
            "prefill_tokens_per_second": rate(prompt * sequences, prefill_seconds),
            "decode_tokens_per_second": rate(decode * sequences, decode_seconds),
            "sequences": sequences,
        })
    );
    Ok(())
}

fn most_likely(row: &[f32]) -> u32 {
    row.iter()
        .enumerate()
        .max_by(|left, right| left.1.total_cmp(right.1))
        .map_or(0, |(index, _)| index as u32)
}
