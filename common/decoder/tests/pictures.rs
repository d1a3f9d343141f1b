//! Comparison of a tiny Qwen3-VL with pictures with transformers (fixtures of `tests/reference/vision.py`).

#[path = "../../../tests/fixtures/device.rs"]
mod device;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use device::device;
use rstest::rstest;
use videosdgx_decoder::{LoadOptions, TextModel};
use videosdgx_decoder_api::{
    BLOCK_TOKENS, BlockId, Decoder as _, DecoderError, ImageInput, LogitsRequest, Segment,
};
use videosdgx_tensor::{Kind, Quantization, Tensor};
use videosdgx_text::image::PicturePreprocessor;

/// The placeholder token of the fixture.
const PLACEHOLDER: u32 = 150;
/// Blocks of a sequence; more than any test here needs.
const BLOCKS: usize = 16;

fn fixture(path: &str) -> PathBuf {
    let _ = device();
    videosdgx_tensor::set_threads(1);
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/vision").join(path)
}

struct Golden {
    prompt: Vec<u32>,
    images: Vec<Arc<ImageInput>>,
    /// `[prompt, vocab]`
    logits: Vec<Vec<f32>>,
    greedy: Vec<u32>,
}

fn golden() -> Golden {
    let tensors: HashMap<String, Tensor> =
        Tensor::read_safetensors(fixture("golden.safetensors")).expect("is committed").into_iter().collect();
    let ids = |name: &str| -> Vec<u32> {
        let ids = Vec::<i64>::try_from(&tensors[name]).expect("numbers");
        ids.into_iter().map(|id| u32::try_from(id).expect("an id")).collect()
    };
    let prompt = ids("ids");
    let processor = PicturePreprocessor::open(&fixture("model")).expect("opens");
    let mut from = 0;
    let images = ["rgb.png", "tall.png"].map(|name| {
        let bytes = std::fs::read(fixture("images").join(name)).expect("is committed");
        let position = from + prompt[from..].iter().position(|id| *id == PLACEHOLDER).expect("a placeholder");
        let image = processor.process(&bytes).expect("a picture").at(position);
        from = position + image.tokens;
        image
    });
    let logits = Vec::<Vec<f32>>::try_from(&tensors["logits"]).expect("rows");
    Golden { prompt, images: images.to_vec(), logits, greedy: ids("greedy") }
}

fn model(kind: Kind) -> TextModel {
    let options = LoadOptions::new(device(), kind, Quantization::None);
    let mut model = TextModel::load(fixture("model"), &options).expect("loads");
    assert!(model.unused().is_empty(), "{:?}", model.unused());
    model.resize_cache(3 * BLOCKS).expect("fits");
    model
}

/// Scattered blocks for sequence `index`.
fn blocks(index: usize) -> Vec<BlockId> {
    (0..BLOCKS).map(|block| (block * 3 + index) as BlockId).collect()
}

/// Largest difference of two rows of logits, relative to the largest logit.
fn error(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    let largest = theirs.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    ours.iter().zip(theirs).fold(0f32, |error, (ours, theirs)| error.max((ours - theirs).abs())) / largest
}

fn best(row: &[f32]) -> u32 {
    let best = row.iter().enumerate().max_by(|left, right| left.1.total_cmp(right.1)).expect("a row");
    best.0 as u32
}

/// Computes `tokens` in chunks of `chunk`, and returns the logits after each token.
fn logits(model: &mut TextModel, golden: &Golden, tokens: &[u32], chunk: usize) -> Vec<Vec<f32>> {
    let blocks = blocks(0);
    let mut rows = Vec::new();
    for (index, piece) in tokens.chunks(chunk).enumerate() {
        let segment = Segment {
            tokens: piece,
            start: index * chunk,
            blocks: &blocks,
            images: &golden.images,
            logits: LogitsRequest::All,
        };
        let logits = model.step(&[segment]).expect("computes");
        rows.extend((0..logits.rows()).map(|row| logits.row(row).to_vec()));
    }
    rows
}

/// Chunks of 1, 7 and 16 begin and end inside pictures.
#[rstest]
#[case(Kind::Float, 1e-5)]
#[case(Kind::BFloat16, 4e-2)]
fn logits_match_transformers_in_every_chunking(
    #[case] kind: Kind,
    #[case] bound: f32,
    #[values(1, 7, 16, 1000)] chunk: usize,
) {
    let (mut model, golden) = (model(kind), golden());
    let rows = logits(&mut model, &golden, &golden.prompt, chunk);
    assert_eq!(rows.len(), golden.logits.len());
    let errors = rows.iter().zip(&golden.logits).map(|(ours, theirs)| error(ours, theirs));
    let largest = errors.fold(0f32, f32::max);
    println!("{kind:?} by {chunk}: {largest:.2e}");
    assert!(largest < bound, "{largest:.2e}");
}

#[rstest]
fn greedy_tokens_match_transformers(#[values(5, 23, 1000)] chunk: usize) {
    let (mut model, golden) = (model(Kind::Float), golden());
    assert_eq!(golden.greedy.len(), 32);
    let mut next = best(logits(&mut model, &golden, &golden.prompt, chunk).last().expect("a row"));
    let mut tokens = Vec::new();
    let blocks = blocks(0);
    while tokens.len() < 32 {
        tokens.push(next);
        let segment = Segment {
            tokens: &[next],
            start: golden.prompt.len() + tokens.len() - 1,
            blocks: &blocks,
            images: &golden.images,
            logits: LogitsRequest::Last,
        };
        next = best(model.step(&[segment]).expect("computes").row(0));
    }
    assert_eq!(tokens, golden.greedy);
}

/// One step with a prompt with pictures, one without and one with only the second picture, in chunks that split
/// pictures.
#[test]
fn results_do_not_depend_on_the_batch() {
    let (mut model, golden) = (model(Kind::Float), golden());
    let second = &golden.images[1];
    let short: Vec<u32> = golden.prompt[second.position - 2..].to_vec();
    let moved = ImageInput { position: 2, ..(**second).clone() };
    let prompts: [(&[u32], Vec<Arc<ImageInput>>); 3] = [
        (&golden.prompt, golden.images.clone()),
        (&[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5], Vec::new()),
        (&short, vec![Arc::new(moved)]),
    ];
    let alone: Vec<Vec<Vec<f32>>> = prompts
        .iter()
        .map(|(tokens, images)| {
            let golden =
                Golden { images: images.clone(), prompt: Vec::new(), logits: Vec::new(), greedy: Vec::new() };
            logits(&mut model, &golden, tokens, 1000)
        })
        .collect();
    let tables: Vec<Vec<BlockId>> = (0..3).map(blocks).collect();
    let chunk = BLOCK_TOKENS - 5;
    let mut together = vec![Vec::new(); 3];
    for start in (0..golden.prompt.len()).step_by(chunk) {
        let going: Vec<usize> = (0..3).filter(|index| prompts[*index].0.len() > start).collect();
        let segments: Vec<Segment<'_>> = going
            .iter()
            .map(|&index| {
                let (tokens, images) = &prompts[index];
                Segment {
                    tokens: &tokens[start..tokens.len().min(start + chunk)],
                    start,
                    blocks: &tables[index],
                    images,
                    logits: LogitsRequest::All,
                }
            })
            .collect();
        let logits = model.step(&segments).expect("computes");
        let mut row = 0;
        for (index, segment) in going.into_iter().zip(&segments) {
            for _ in segment.tokens {
                together[index].push(logits.row(row).to_vec());
                row += 1;
            }
        }
        assert_eq!(row, logits.rows());
    }
    for (index, (together, alone)) in together.iter().zip(&alone).enumerate() {
        assert_eq!(together.len(), alone.len());
        let largest = together.iter().zip(alone).map(|(left, right)| error(left, right)).fold(0f32, f32::max);
        assert!(largest < 1e-5, "sequence {index}: {largest:.2e}");
    }
}

#[test]
fn a_picture_that_does_not_fit_fails_the_step_and_not_the_model() {
    let (mut model, golden) = (model(Kind::Float), golden());
    let mut wrong = (*golden.images[0]).clone();
    wrong.patches.pop();
    let images = [Arc::new(wrong), Arc::clone(&golden.images[1])];
    let blocks = blocks(0);
    let segment = Segment {
        tokens: &golden.prompt,
        start: 0,
        blocks: &blocks,
        images: &images,
        logits: LogitsRequest::Last,
    };
    assert!(matches!(model.step(&[segment]), Err(DecoderError::Failed(_))));
    let rows = logits(&mut model, &golden, &golden.prompt, 1000);
    assert!(error(&rows[0], &golden.logits[0]) < 1e-5);
}
