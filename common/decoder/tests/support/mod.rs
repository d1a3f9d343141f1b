//! A minimal engine for tests: sequences with cache blocks, computed as the scheduler would.

#![allow(dead_code, clippy::allow_attributes, reason = "each test program uses a part of it")]

#[path = "../../../../tests/fixtures/device.rs"]
mod device;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) use device::device;
use videosdgx_decoder::{LoadOptions, TextModel};
use videosdgx_decoder_api::{BLOCK_TOKENS, BlockId, Decoder, ImageInput, Logits, LogitsRequest, Segment};
use videosdgx_tensor::{Kind, Quantization, Tensor};

/// Cache blocks of a test's model.
pub(crate) const BLOCKS: usize = 64;

pub(crate) const FAMILIES: [&str; 8] =
    ["llama", "qwen3", "qwen3_moe", "qwen3_vl", "glm4_moe", "glm4_moe_lite", "gemma3", "gemma3_text"];

pub(crate) fn folder(family: &str) -> PathBuf {
    // Tests run in parallel, and tiny models are slower with a second thread.
    let _ = device();
    videosdgx_tensor::set_threads(1);
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/text").join(family)
}

pub(crate) fn load(family: &str, kind: Kind, quantization: Quantization) -> TextModel {
    let options = LoadOptions::new(device(), kind, quantization);
    let mut model = TextModel::load(folder(family), &options).expect("the fixture loads");
    assert_eq!(model.unused(), [""; 0], "every tensor has a place");
    model.resize_cache(BLOCKS).expect("small");
    model
}

/// One prompt of a fixture with the reference's results.
pub(crate) struct Golden {
    pub(crate) tokens: Vec<u32>,
    pub(crate) images: Vec<Arc<ImageInput>>,
    /// `[tokens, vocab]`
    pub(crate) logits: Tensor,
    pub(crate) greedy: Vec<u32>,
}

pub(crate) fn golden(family: &str) -> Vec<Golden> {
    let path = folder(family).join("golden.safetensors");
    let tensors: HashMap<String, Tensor> =
        Tensor::read_safetensors(&path).expect("the fixture is committed").into_iter().collect();
    let ids = |name: &str| -> Vec<u32> {
        let ids: Vec<i64> = (&tensors[name]).try_into().expect("whole numbers");
        ids.into_iter().map(|id| u32::try_from(id).expect("an id")).collect()
    };
    (0..3)
        .map(|index| Golden {
            tokens: ids(&format!("prompt.{index}")),
            images: if index == 1 { images(&tensors) } else { Vec::new() },
            logits: tensors[&format!("logits.{index}")].shallow_clone(),
            greedy: ids(&format!("greedy.{index}")),
        })
        .collect()
}

fn images(tensors: &HashMap<String, Tensor>) -> Vec<Arc<ImageInput>> {
    let Some(patches) = tensors.get("patches") else { return Vec::new() };
    let list =
        |name: &str| -> Vec<i64> { (&tensors[name].flatten(0, -1)).try_into().expect("whole numbers") };
    let (positions, grids) = (list("image_positions"), list("grids"));
    let mut first = 0;
    let each = positions.iter().zip(grids.chunks(3)).enumerate().map(|(index, (&position, grid))| {
        let grid: [usize; 3] = std::array::from_fn(|axis| grid[axis] as usize);
        let count = grid.iter().product::<usize>();
        let own = patches.narrow(0, first as i64, count as i64);
        first += count;
        Arc::new(ImageInput {
            position: position as usize,
            tokens: count / 4,
            grid,
            patches: Vec::try_from(own.flatten(0, -1)).expect("numbers"),
            digest: [index as u8; 32],
        })
    });
    each.collect()
}

/// A sequence that is being generated.
pub(crate) struct Sequence {
    pub(crate) tokens: Vec<u32>,
    pub(crate) images: Vec<Arc<ImageInput>>,
    /// Number of tokens that are in the cache.
    pub(crate) computed: usize,
    pub(crate) blocks: Vec<BlockId>,
    prompt: usize,
}

impl Sequence {
    /// With blocks for `capacity` tokens; every other block of the pool, from the end, so that the order is not trivial.
    pub(crate) fn new(golden: &Golden, pool: &mut Vec<BlockId>, capacity: usize) -> Self {
        let blocks = pool.split_off(pool.len() - capacity.div_ceil(BLOCK_TOKENS));
        let (tokens, images) = (golden.tokens.clone(), golden.images.clone());
        Self { prompt: tokens.len(), tokens, images, computed: 0, blocks }
    }

    pub(crate) fn output(&self) -> &[u32] {
        &self.tokens[self.prompt..]
    }

    /// The next `count` tokens that are not in the cache.
    pub(crate) fn segment(&self, count: usize, logits: LogitsRequest) -> Segment<'_> {
        let end = (self.computed + count).min(self.tokens.len());
        Segment {
            tokens: &self.tokens[self.computed..end],
            start: self.computed,
            blocks: &self.blocks,
            images: &self.images,
            logits,
        }
    }

    pub(crate) fn left(&self) -> usize {
        self.tokens.len() - self.computed
    }
}

/// Blocks of the cache, in scrambled order.
pub(crate) fn pool() -> Vec<BlockId> {
    let blocks = BLOCKS as u32;
    (0..blocks).map(|index| index * 37 % blocks).collect()
}

/// One step: each sequence computes at most `chunk` tokens; those that reach their end append the most likely token.
pub(crate) fn step(model: &mut TextModel, sequences: &mut [&mut Sequence], chunk: usize) {
    let ends: Vec<bool> = sequences.iter().map(|one| one.left() <= chunk).collect();
    let segments: Vec<Segment<'_>> = sequences
        .iter()
        .zip(&ends)
        .map(|(one, &end)| one.segment(chunk, if end { LogitsRequest::Last } else { LogitsRequest::None }))
        .collect();
    let lengths: Vec<usize> = segments.iter().map(|segment| segment.tokens.len()).collect();
    let logits = model.step(&segments).expect("computes");
    let mut row = 0;
    for ((sequence, end), length) in sequences.iter_mut().zip(ends).zip(lengths) {
        sequence.computed += length;
        if end {
            sequence.tokens.push(most_likely(logits.row(row)));
            row += 1;
        }
    }
    assert_eq!(row, logits.rows());
}

/// Runs one sequence until it has `count` output tokens.
pub(crate) fn generate(model: &mut TextModel, sequence: &mut Sequence, chunk: usize, count: usize) {
    while sequence.output().len() < count {
        step(model, &mut [sequence], chunk);
    }
}

pub(crate) fn most_likely(row: &[f32]) -> u32 {
    let best = row.iter().enumerate().max_by(|left, right| left.1.total_cmp(right.1));
    best.map_or(0, |(index, _)| index as u32)
}

/// `[rows, vocab]`
pub(crate) fn tensor(logits: &Logits) -> Tensor {
    let rows: Vec<Tensor> = (0..logits.rows()).map(|row| Tensor::from_slice(logits.row(row))).collect();
    Tensor::stack(&rows, 0)
}

/// ‖left − right‖ / ‖right‖
pub(crate) fn relative(left: &Tensor, right: &Tensor) -> f64 {
    assert_eq!(left.size(), right.size());
    let (left, right) = (left.to_kind(Kind::Double), right.to_kind(Kind::Double));
    f64::try_from((left - &right).norm() / right.norm()).expect("a number")
}
