//! Comparison of the demonstration checkpoint with transformers on its dequantised weights
//! (`tests/reference/smollm2.py`).
//!
//! `scripts/setup` downloads the GGUF file; without it these tests are skipped with a message.

mod support;

use std::collections::HashMap;
use std::path::PathBuf;

use support::{Golden, Sequence, device, generate, relative, tensor};
use videosdgx_decoder::{LoadOptions, TextModel};
use videosdgx_decoder_api::{BLOCK_TOKENS, Decoder, LogitsRequest};
use videosdgx_tensor::{Kind, Quantization, Tensor};

const PROMPTS: usize = 10;
const NEW_TOKENS: usize = 64;
/// The fixture has every `COLUMN_STEP`th column of the logits.
const COLUMN_STEP: i64 = 24;

fn file() -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../checkpoints/smollm2-135m/SmolLM2-135M-Instruct.Q4_1.gguf");
    if !path.is_file() {
        println!("{} is not there, run scripts/setup", path.display());
        return None;
    }
    Some(path)
}

fn load(kind: Kind, exact: bool) -> Option<TextModel> {
    load_with(&LoadOptions { exact, ..LoadOptions::new(device(), kind, Quantization::None) })
}

fn load_with(options: &LoadOptions) -> Option<TextModel> {
    let mut model = TextModel::load(file()?, options).expect("loads");
    assert_eq!(model.unused(), [""; 0]);
    model.resize_cache(support::BLOCKS).expect("small");
    Some(model)
}

struct Prompt {
    golden: Golden,
    /// After each token of prompt and output.
    most_likely: Vec<u32>,
}

fn prompts() -> Vec<Prompt> {
    let path = support::folder("smollm2").join("golden.safetensors");
    let tensors: HashMap<String, Tensor> =
        Tensor::read_safetensors(path).expect("the fixture is committed").into_iter().collect();
    let ids = |name: String| -> Vec<u32> {
        let ids: Vec<i64> = tensors[&name].to_kind(Kind::Int64).try_into().expect("whole numbers");
        ids.into_iter().map(|id| u32::try_from(id).expect("an id")).collect()
    };
    (0..PROMPTS)
        .map(|index| Prompt {
            golden: Golden {
                tokens: ids(format!("prompt.{index}")),
                images: Vec::new(),
                logits: tensors[&format!("logits.{index}")].shallow_clone(),
                greedy: ids(format!("greedy.{index}")),
            },
            most_likely: ids(format!("likeliest.{index}")),
        })
        .collect()
}

fn sequence(golden: &Golden) -> Sequence {
    Sequence::new(golden, &mut support::pool(), golden.tokens.len() + NEW_TOKENS)
}

/// The mean relative error of the logits after the prompts, and the fraction of all positions with the same most
/// likely token.
fn compare(model: &mut TextModel) -> (f64, f64) {
    let (mut sum, mut same, mut all) = (0f64, 0, 0);
    for Prompt { golden, most_likely } in prompts() {
        let after_prompt = golden.tokens.len() as i64 - 1;
        let mut whole = sequence(&golden);
        whole.tokens.extend(&golden.greedy);
        let logits =
            tensor(&model.step(&[whole.segment(usize::MAX / 2, LogitsRequest::All)]).expect("computes"));
        let row = logits.get(after_prompt).slice(0, 0, None, COLUMN_STEP);
        sum += relative(&row, &golden.logits);
        let ours: Vec<i64> = logits.argmax(-1, false).try_into().expect("whole numbers");
        same += ours.iter().zip(&most_likely).filter(|(ours, theirs)| **ours == i64::from(**theirs)).count();
        all += most_likely.len();
    }
    (sum / PROMPTS as f64, same as f64 / all as f64)
}

#[test]
fn in_f32_64_greedy_tokens_of_ten_prompts_are_the_references() {
    let Some(mut model) = load(Kind::Float, true) else { return };
    for (index, Prompt { golden, .. }) in prompts().into_iter().enumerate() {
        let mut sequence = sequence(&golden);
        generate(&mut model, &mut sequence, 512, NEW_TOKENS);
        assert_eq!(sequence.output(), golden.greedy, "prompt {index}");
    }
}

#[test]
fn in_f32_logits_are_the_references() {
    let Some(mut model) = load(Kind::Float, true) else { return };
    let (error, same) = compare(&mut model);
    println!("f32: logits {error:.2e}, {:.2} % the same most likely token", 100.0 * same);
    assert!(error < 1e-4 && same > 0.999, "{error:.2e}, {same}");
}

/// Activations are rounded to 15 bits for the products with the file's weights.
#[test]
fn in_integers_from_f32_logits_are_near() {
    let Some(mut model) = load(Kind::Float, false) else { return };
    let (error, same) = compare(&mut model);
    println!("integers from f32: logits {error:.2e}, {:.2} % the same most likely token", 100.0 * same);
    assert!(error < 2e-3 && same > 0.995, "{error:.2e}, {same}");
}

/// The default of the services: integer products, and a cache in half precision.
#[test]
fn with_a_cache_in_half_precision_the_same_tokens_come() {
    let options =
        LoadOptions { cache_kind: Kind::Half, ..LoadOptions::new(device(), Kind::Float, Quantization::None) };
    let Some(mut model) = load_with(&options) else { return };
    let (error, same) = compare(&mut model);
    println!(
        "integers from f32, f16 cache: logits {error:.2e}, {:.2} % the same most likely token",
        100.0 * same
    );
    assert!(error < 3e-3 && same > 0.995, "{error:.2e}, {same}");
    for (index, Prompt { golden, .. }) in prompts().into_iter().enumerate() {
        let mut sequence = sequence(&golden);
        generate(&mut model, &mut sequence, 512, NEW_TOKENS);
        assert_eq!(sequence.output(), golden.greedy, "prompt {index}");
    }
}

/// In bf16 activations are rounded to eight bits. That changes the logits less than the precision of the file: the
/// fixture says how much they change when each weight changes within its rounding interval.
#[test]
fn in_integers_logits_are_within_the_files_precision() {
    let Some(mut model) = load(Kind::BFloat16, false) else { return };
    let (error, same) = compare(&mut model);
    let [moved, kept] = precision();
    println!(
        "integers: logits {error:.2e}, {:.2} % the same most likely token; the file: {moved:.2e}, {:.2} %",
        100.0 * same,
        100.0 * kept
    );
    assert!(error < moved && same > kept && same > 0.95, "{error:.2e}, {same}");
}

fn precision() -> [f64; 2] {
    let path = support::folder("smollm2").join("golden.safetensors");
    let tensors = Tensor::read_safetensors(path).expect("the fixture is committed");
    let (_, precision) =
        tensors.into_iter().find(|(name, _)| name == "precision").expect("is in the fixture");
    let numbers: Vec<f64> = precision.to_kind(Kind::Double).try_into().expect("numbers");
    [numbers[0], numbers[1]]
}

/// All ten prompts together, in scattered blocks.
#[test]
fn in_a_batch_the_same_tokens_come() {
    let Some(mut model) = load(Kind::Float, true) else { return };
    model.resize_cache(128).expect("small");
    let prompts = prompts();
    let mut pool: Vec<u32> = (0..128).map(|index| index * 37 % 128).collect();
    let capacity = |golden: &Golden| (golden.tokens.len() + 16).div_ceil(BLOCK_TOKENS) * BLOCK_TOKENS;
    let mut sequences: Vec<Sequence> =
        prompts.iter().map(|one| Sequence::new(&one.golden, &mut pool, capacity(&one.golden))).collect();
    while sequences.iter().any(|one| one.output().len() < 16) {
        let mut running: Vec<&mut Sequence> =
            sequences.iter_mut().filter(|one| one.output().len() < 16).collect();
        support::step(&mut model, &mut running, 25);
    }
    for (sequence, prompt) in sequences.iter().zip(&prompts) {
        assert_eq!(sequence.output(), &prompt.golden.greedy[..16]);
    }
}
