//! Times prefill and decoding of a language model on the CPU, for one and for several sequences at once.
//!
//! `bench_text CHECKPOINT [f32|bf16] [SEQUENCES,…] [ROUNDS]`: prints the best and the median of some rounds, which
//! separates the model's time from disturbances by other processes. The lower bound of decoding is the time to read
//! the weights from memory.

use std::time::Instant;

use anyhow::{Context, Result};
use videosdgx_decoder::{Source, TextModel};
use videosdgx_decoder_api::{BLOCK_TOKENS, BlockId, Decoder, LogitsRequest, Segment};
use videosdgx_tensor::{Device, DtypeChoice, Quantization, use_passive_waiting};

const PROMPT: usize = 512;
const DECODE: usize = 128;

fn main() -> Result<()> {
    use_passive_waiting();
    let _no_grad = tch::no_grad_guard();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |index: usize| arguments.get(index).map(String::as_str);
    let checkpoint = argument(0).context("see the usage in the source")?;
    let dtype = argument(1).map_or(Ok(DtypeChoice::Auto), str::parse::<DtypeChoice>)?;
    let sequences =
        argument(2).unwrap_or("1,4,16").split(',').map(str::parse).collect::<Result<Vec<usize>, _>>()?;
    let rounds: usize = argument(3).map_or(Ok(3), str::parse)?;
    let source = Source::open(checkpoint)?;
    let options = source.options(Device::Cpu, [dtype, DtypeChoice::Auto], Quantization::None);
    let kind = options.kind;
    let mut model = source.load(&options)?;
    let most = sequences.iter().copied().max().unwrap_or(1);
    let blocks = (PROMPT + DECODE).div_ceil(BLOCK_TOKENS);
    model.resize_cache(blocks * most)?;
    for count in sequences {
        let (mut prefills, mut steps) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            round(&mut model, count, blocks, &mut prefills, &mut steps)?;
        }
        let [prefill, prefill_median] = best_and_median(&mut prefills);
        let [step, step_median] = best_and_median(&mut steps);
        let rate = |tokens: usize, seconds: f64| tokens as f64 / seconds;
        println!(
            "{kind:?}, {count:2} sequences: prefill of {PROMPT} tokens {:.1} ms ({:.0} tokens/s; median {:.0}), a step of \
             decoding {:.2} ms ({:.0} tokens/s together; median {:.0})",
            prefill * 1e3,
            rate(PROMPT, prefill),
            rate(PROMPT, prefill_median),
            step * 1e3,
            rate(count, step),
            rate(count, step_median),
        );
    }
    Ok(())
}

fn round(
    model: &mut TextModel,
    count: usize,
    blocks: usize,
    prefills: &mut Vec<f64>,
    steps: &mut Vec<f64>,
) -> Result<()> {
    let vocab = model.shape().vocab;
    let tables: Vec<Vec<BlockId>> = (0..count)
        .map(|index| (0..blocks).map(|block| (index * blocks + block) as BlockId).collect())
        .collect();
    for (index, blocks) in tables.iter().enumerate() {
        let tokens: Vec<u32> =
            (0..PROMPT).map(|at| ((at * 7919 + index * 131 + 13) % vocab) as u32).collect();
        let start = Instant::now();
        model.step(&[Segment {
            tokens: &tokens,
            start: 0,
            blocks,
            images: &[],
            logits: LogitsRequest::Last,
        }])?;
        prefills.push(start.elapsed().as_secs_f64());
    }
    for at in PROMPT..PROMPT + DECODE {
        let token = [(at % vocab) as u32];
        let segment =
            |blocks| Segment { tokens: &token, start: at, blocks, images: &[], logits: LogitsRequest::Last };
        let segments: Vec<Segment<'_>> = tables.iter().map(|blocks| segment(blocks)).collect();
        let start = Instant::now();
        model.step(&segments)?;
        steps.push(start.elapsed().as_secs_f64());
    }
    Ok(())
}

fn best_and_median(seconds: &mut [f64]) -> [f64; 2] {
    seconds.sort_by(f64::total_cmp);
    [
        seconds.first().copied().unwrap_or(f64::NAN),
        seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN),
    ]
}
