//! LTX-2's text encoder, Gemma 3 with its tokenizer, against diffusers and transformers on a tiny random configuration
//! (`tests/reference/ltx2_text.py`).

#[path = "../../../tests/fixtures/golden.rs"]
#[expect(dead_code, reason = "the weights are loaded by the encoder")]
mod golden;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use golden::{device, folder, relative, tensors};
use rstest::rstest;
use serde_json::Value;
use videosdgx_tensor::{CheckpointError, Kind, Quantization, TensorError};
use videosdgx_video::text::{
    CachedTextEncoder, GEMMA_MAX_TOKENS, GemmaPromptEncoder, PromptEncoder, PromptTokenizer,
};

/// The length that most of the fixture's prompts are padded to.
const LENGTH: usize = 32;

/// Name in the fixture, prompt, and padded length.
fn prompts() -> Vec<(String, String, usize)> {
    let long =
        "the green triangle moving up on a navy background, and the blue square\nmoving left and right";
    let fixed = [
        ("short", "a red circle"),
        ("long", long),
        ("empty", ""),
        ("spaces", " \n\u{2003} a  red\tcircle \u{1f}\n"),
        ("bytes", "a größe 圆 circle 😀 <b>&amp;"),
        ("special", "the <eos> circle<bos>"),
    ];
    let mut prompts: Vec<_> =
        fixed.into_iter().map(|(name, prompt)| (name, prompt.to_owned(), LENGTH)).collect();
    prompts.push(("short", "a red circle".to_owned(), GEMMA_MAX_TOKENS));
    for length in [LENGTH, GEMMA_MAX_TOKENS] {
        prompts.push(("cut", "red circle moving up and ".repeat(20), length));
    }
    prompts.into_iter().map(|(name, prompt, length)| (format!("{name}_{length}"), prompt, length)).collect()
}

fn load(length: usize, kind: Kind, quantization: Quantization) -> GemmaPromptEncoder {
    GemmaPromptEncoder::load(&folder("ltx2-text"), length, device(), kind, quantization).expect("loads")
}

#[test]
fn prompts_become_the_reference_ids() {
    let golden = tensors("ltx2-text");
    for (name, prompt, length) in prompts() {
        let tokenizer = PromptTokenizer::open(&folder("ltx2-text").join("tokenizer"), length).expect("opens");
        let tokens = tokenizer.encode(&GemmaPromptEncoder::prepare(&prompt)).expect("encodes");
        let expected = Vec::<i64>::try_from(&golden[&format!("{name}_ids")]).expect("ids");
        assert_eq!(tokens.ids, expected, "{name}");
        assert_eq!(tokens.ids[0], 2, "{name} begins with the start token");
        assert_eq!(tokens.truncated, tokens.ids.len() == length, "{name}");
        assert_eq!(tokens.unknown_words, [""; 0], "{name}");
    }
}

#[rstest]
fn embeddings_are_the_references(
    #[values((Kind::Float, 1e-4), (Kind::BFloat16, 2e-2))] (kind, bound): (Kind, f64),
) {
    let golden = tensors("ltx2-text");
    for (name, prompt, length) in prompts() {
        let encoder = load(length, kind, Quantization::None);
        assert_eq!((encoder.hidden(), encoder.states(), encoder.max_tokens()), (32, 3, length));
        let encoded = encoder.encode(&GemmaPromptEncoder::prepare(&prompt)).expect("encodes");
        let error = relative(&encoded.embedding, &golden[&format!("{name}_embeds")]);
        println!("{name} {kind:?}: {error:.2e}");
        assert_eq!((encoded.embedding.kind(), encoded.truncated), (kind, name == "cut_32"));
        assert!(error <= bound, "{name}: {error:.2e}");
    }
}

#[rstest]
#[case(Quantization::Fp8, 0.2)]
#[case(Quantization::Nvfp4, 0.5)]
fn quantised_layers_stay_near(#[case] quantization: Quantization, #[case] bound: f64) {
    let golden = tensors("ltx2-text");
    let encoder = load(LENGTH, Kind::BFloat16, quantization);
    let encoded = encoder.encode("a red circle").expect("encodes");
    let error = relative(&encoded.embedding, &golden["short_32_embeds"]);
    println!("{quantization}: {error:.2e}");
    assert!((1e-3..bound).contains(&error), "{error:.2e}");
    assert!(encoder.resident_bytes() < load(LENGTH, Kind::BFloat16, Quantization::None).resident_bytes());
    let said = |length: usize| {
        let folder = folder("ltx2-text");
        GemmaPromptEncoder::memory(&folder, length, device(), Kind::BFloat16, quantization).expect("opens")
    };
    let ratio = said(LENGTH).weights as f64 / encoder.resident_bytes() as f64;
    // Tiny rows: scales and norms take a larger part than in a real model.
    assert!((0.4..1.3).contains(&ratio), "{ratio}");
    assert!(said(GEMMA_MAX_TOKENS).computing - said(LENGTH).computing > (1024 - 32) * 3 * 32 * 2);
}

#[test]
fn a_prompt_is_encoded_once_and_the_encoder_can_be_freed() {
    let loads = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&loads);
    let mut encoder = CachedTextEncoder::new(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        Ok(load(LENGTH, Kind::Float, Quantization::None))
    });
    assert!(!encoder.is_cached("a red circle") && encoder.resident_bytes() == 0);
    let first = encoder.encode("a red circle").expect("encodes");
    assert!(encoder.resident_bytes() > 0 && encoder.free() && !encoder.free());
    assert!(encoder.is_cached("\ta red circle  ") && !encoder.is_cached("a red  circle"));
    let again = encoder.encode(" a red circle\n").expect("is cached");
    assert_eq!((again.embedding, loads.load(Ordering::Relaxed)), (first.embedding, 1));
    encoder.load().expect("loads");
    assert_eq!(loads.load(Ordering::Relaxed), 2);
}

/// A copy of the fixture; `change` gets its folder.
fn refusal(length: usize, change: impl FnOnce(&Path)) -> TensorError {
    let copy = tempfile::tempdir().expect("temporary folder");
    for part in ["tokenizer", "text_encoder"] {
        std::fs::create_dir(copy.path().join(part)).expect("creates");
        for entry in std::fs::read_dir(folder("ltx2-text").join(part)).expect("is committed") {
            let file = entry.expect("reads").path();
            let name = file.file_name().expect("a file");
            std::fs::copy(&file, copy.path().join(part).join(name)).expect("copies");
        }
    }
    change(copy.path());
    let loaded = GemmaPromptEncoder::load(copy.path(), length, device(), Kind::Float, Quantization::None);
    loaded.err().expect("refused")
}

fn edit(file: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&std::fs::read(file).expect("reads")).expect("parses");
    change(&mut value);
    std::fs::write(file, value.to_string()).expect("writes");
}

#[test]
fn files_that_do_not_fit_are_named() {
    let error = refusal(LENGTH, |copy| {
        edit(&copy.join("text_encoder/config.json"), |config| {
            config["text_config"]["hidden_activation"] = "relu".into();
        });
    });
    assert!(matches!(&error, TensorError::Checkpoint(CheckpointError::Invalid { .. })), "{error}");
    let message = error.to_string();
    assert!(
        message.contains("text_encoder/config.json") && message.contains("hidden_activation is \"relu\""),
        "{message}"
    );
    let error = refusal(LENGTH, |copy| {
        edit(&copy.join("tokenizer/tokenizer_config.json"), |config| config["bos_token"] = "<start>".into());
    });
    let message = error.to_string();
    assert!(message.contains("bos_token \"<start>\" is not in the vocabulary"), "{message}");
    let message = refusal(4096, |_| {}).to_string();
    assert!(message.contains("a context of 2048 tokens, prompts have 4096"), "{message}");
    let error = refusal(LENGTH, |copy| {
        std::fs::remove_file(copy.join("tokenizer/tokenizer.json")).expect("removes");
    });
    assert!(matches!(&error, TensorError::Checkpoint(CheckpointError::Missing { .. })), "{error}");
}
