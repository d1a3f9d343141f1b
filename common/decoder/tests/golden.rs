//! Comparison of all families with transformers, on tiny random models (`tests/reference/text_models.py`).

mod support;

use rstest::rstest;
use support::{BLOCKS, Golden, Sequence, generate, golden, load, pool, relative, step, tensor};
use videosdgx_decoder_api::{BLOCK_TOKENS, Decoder, LogitsRequest};
use videosdgx_tensor::{Kind, Quantization, Tensor};

/// Bound of the relative error of the logits in f32.
const EXACT: f64 = 1e-4;
/// Bound in bf16, with its eight bits of mantissa through a few layers, for the median over the rows. (In some rows
/// rounding may route a token to another expert.)
const BF16: f64 = 0.04;
const NEW_TOKENS: usize = 32;

fn capacity(golden: &Golden) -> usize {
    golden.tokens.len() + NEW_TOKENS
}

/// Logits of all positions in chunks of `chunk`, ours and the reference's, for each prompt.
fn logits(family: &str, kind: Kind, quantization: Quantization, chunk: usize) -> Vec<(Tensor, Tensor)> {
    let mut model = load(family, kind, quantization);
    let pairs = golden(family).into_iter().map(|golden| {
        let mut sequence = Sequence::new(&golden, &mut pool(), capacity(&golden));
        let mut rows = Vec::new();
        while sequence.left() > 0 {
            let segment = sequence.segment(chunk, LogitsRequest::All);
            let length = segment.tokens.len();
            rows.push(tensor(&model.step(&[segment]).expect("computes")));
            sequence.computed += length;
        }
        (Tensor::cat(&rows, 0), golden.logits)
    });
    pairs.collect()
}

/// The median over rows of the relative error.
fn median_error(pairs: &[(Tensor, Tensor)]) -> f64 {
    let rows = |(ours, theirs): &(Tensor, Tensor)| {
        (0..ours.size()[0]).map(|row| relative(&ours.get(row), &theirs.get(row))).collect::<Vec<_>>()
    };
    let mut errors: Vec<f64> = pairs.iter().flat_map(rows).collect();
    errors.sort_by(f64::total_cmp);
    errors[errors.len() / 2]
}

#[rstest]
fn logits_are_the_references(
    #[values(
        "llama",
        "qwen3",
        "qwen3_moe",
        "qwen3_vl",
        "glm4_moe",
        "glm4_moe_lite",
        "gemma3",
        "gemma3_text"
    )]
    family: &str,
    #[values(1, 7, 16, 1000)] chunk: usize,
) {
    let pairs = logits(family, Kind::Float, Quantization::None, chunk);
    let error = pairs.iter().map(|(ours, theirs)| relative(ours, theirs)).fold(0.0, f64::max);
    println!("{family} in chunks of {chunk}: {error:.2e}");
    assert!(error < EXACT, "{error:.2e}");
}

#[rstest]
fn bf16_stays_near(
    #[values(
        "llama",
        "qwen3",
        "qwen3_moe",
        "qwen3_vl",
        "glm4_moe",
        "glm4_moe_lite",
        "gemma3",
        "gemma3_text"
    )]
    family: &str,
) {
    let error = median_error(&logits(family, Kind::BFloat16, Quantization::None, 1000));
    println!("{family} in bf16: {error:.2e}");
    assert!(error < BF16, "{error:.2e}");
}

#[rstest]
fn greedy_tokens_are_the_references(
    #[values(
        "llama",
        "qwen3",
        "qwen3_moe",
        "qwen3_vl",
        "glm4_moe",
        "glm4_moe_lite",
        "gemma3",
        "gemma3_text"
    )]
    family: &str,
    #[values(1, 5, 16, 1000)] chunk: usize,
) {
    let mut model = load(family, Kind::Float, Quantization::None);
    for golden in golden(family) {
        let mut sequence = Sequence::new(&golden, &mut pool(), capacity(&golden));
        generate(&mut model, &mut sequence, chunk, NEW_TOKENS);
        assert_eq!(sequence.output(), golden.greedy);
    }
}

/// Sequences of different lengths in one step; one joins later, and some are within their prompts while others
/// decode.
#[rstest]
fn the_same_in_a_batch(
    #[values(
        "llama",
        "qwen3",
        "qwen3_moe",
        "qwen3_vl",
        "glm4_moe",
        "glm4_moe_lite",
        "gemma3",
        "gemma3_text"
    )]
    family: &str,
) {
    let mut model = load(family, Kind::Float, Quantization::None);
    let golden = golden(family);
    let mut pool = pool();
    let mut sequences: Vec<Sequence> =
        golden.iter().map(|golden| Sequence::new(golden, &mut pool, capacity(golden))).collect();
    for round in 0.. {
        let mut running: Vec<&mut Sequence> = sequences
            .iter_mut()
            .enumerate()
            .filter(|(index, one)| one.output().len() < NEW_TOKENS && (*index < 2 || round > 3))
            .map(|(_, one)| one)
            .collect();
        if running.is_empty() {
            break;
        }
        step(&mut model, &mut running, 6);
    }
    for (sequence, golden) in sequences.iter().zip(&golden) {
        assert_eq!(sequence.output(), golden.greedy);
    }
}

/// A sequence whose blocks were given to another starts again with the tokens that it has.
#[rstest]
fn the_same_after_preemption(
    #[values(
        "llama",
        "qwen3",
        "qwen3_moe",
        "qwen3_vl",
        "glm4_moe",
        "glm4_moe_lite",
        "gemma3",
        "gemma3_text"
    )]
    family: &str,
) {
    let mut model = load(family, Kind::Float, Quantization::None);
    let golden = golden(family);
    let mut sequence = Sequence::new(&golden[1], &mut pool(), capacity(&golden[1]));
    generate(&mut model, &mut sequence, 16, 11);
    // The other sequence has the same blocks.
    let mut other = Sequence::new(&golden[2], &mut pool(), capacity(&golden[2]));
    generate(&mut model, &mut other, 1000, 3);
    sequence.computed = 0;
    sequence.blocks.reverse();
    generate(&mut model, &mut sequence, 9, NEW_TOKENS);
    assert_eq!(sequence.output(), golden[1].greedy);
}

/// A second sequence shares the blocks of the first one's prefix, which it never computed.
#[rstest]
fn the_same_with_a_shared_prefix(
    #[values(
        "llama",
        "qwen3",
        "qwen3_moe",
        "qwen3_vl",
        "glm4_moe",
        "glm4_moe_lite",
        "gemma3",
        "gemma3_text"
    )]
    family: &str,
) {
    let mut model = load(family, Kind::Float, Quantization::None);
    let golden = &golden(family)[2];
    let mut pool = pool();
    let mut first = Sequence::new(golden, &mut pool, capacity(golden));
    generate(&mut model, &mut first, 1000, 4);
    let shared = golden.tokens.len() / BLOCK_TOKENS;
    let mut second = Sequence::new(golden, &mut pool, capacity(golden));
    second.blocks[..shared].copy_from_slice(&first.blocks[..shared]);
    second.computed = shared * BLOCK_TOKENS;
    while second.output().len() < NEW_TOKENS {
        let mut running = vec![&mut second];
        if first.output().len() < NEW_TOKENS {
            running.push(&mut first);
        }
        step(&mut model, &mut running, 1000);
    }
    assert_eq!(second.output(), golden.greedy);
    assert_eq!(first.output(), golden.greedy);
}

/// The content of a cache survives growing and shrinking.
#[rstest]
fn the_same_over_a_cache_that_changes_its_size(#[values("qwen3", "glm4_moe_lite")] family: &str) {
    let mut model = load(family, Kind::Float, Quantization::None);
    let golden = &golden(family)[2];
    let mut blocks: Vec<u32> = (0..6).rev().collect();
    let mut sequence = Sequence::new(golden, &mut blocks, capacity(golden));
    for (blocks, tokens) in [(BLOCKS, 5), (6, 9), (7, 14), (300, NEW_TOKENS)] {
        model.resize_cache(blocks).expect("small");
        generate(&mut model, &mut sequence, 11, tokens);
    }
    assert_eq!(sequence.output(), golden.greedy);
}

/// Random weights amplify errors from layer to layer. Unrelated logits have an error of 1.4.
#[rstest]
#[case(Quantization::Fp8, 0.3)]
#[case(Quantization::Nf4, 0.7)]
#[case(Quantization::Nvfp4, 0.7)]
#[case(Quantization::Int4, 0.65)]
fn quantised_weights_stay_near(
    #[case] quantization: Quantization,
    #[case] bound: f64,
    #[values(
        "llama",
        "qwen3",
        "qwen3_moe",
        "qwen3_vl",
        "glm4_moe",
        "glm4_moe_lite",
        "gemma3",
        "gemma3_text"
    )]
    family: &str,
) {
    let error = median_error(&logits(family, Kind::Float, quantization, 1000));
    println!("{family} in {quantization}: {error:.3}");
    // Rows narrower than a block of 64 are not quantised to NF4: only this family has wider ones.
    assert!(
        error > 1e-4 || (quantization == Quantization::Nf4 && family != "glm4_moe"),
        "nothing was quantised"
    );
    assert!(error < bound, "{error:.3}");
}

#[test]
fn a_step_that_breaks_the_contract_is_an_error_and_leaves_the_cache() {
    let mut model = load("qwen3", Kind::Float, Quantization::None);
    let golden = &golden("qwen3")[1];
    let mut sequence = Sequence::new(golden, &mut pool(), capacity(golden));
    generate(&mut model, &mut sequence, 1000, 4);
    let mut wrong = Sequence::new(golden, &mut pool(), capacity(golden));
    wrong.tokens[3] = 5000;
    let error = model.step(&[wrong.segment(1000, LogitsRequest::Last)]).expect_err("refused").to_string();
    assert!(error.contains("names token 5000 of 200"), "{error}");
    generate(&mut model, &mut sequence, 1000, NEW_TOKENS);
    assert_eq!(sequence.output(), golden.greedy);
}
