//! Estimates before loading, and checkpoints that cannot be loaded.

mod support;

use std::path::Path;

use rstest::rstest;
use serde_json::{Value, json};
use support::folder;
use videosdgx_decoder::{LoadOptions, Source, TextModel, expected_tensors};
use videosdgx_decoder_api::{Decoder, LogitsRequest};
use videosdgx_tensor::{Device, Kind, Quantization};

fn options(quantization: Quantization) -> LoadOptions {
    LoadOptions::new(Device::Cpu, Kind::BFloat16, quantization)
}

/// A copy of the fixture `family` whose configuration was changed.
fn changed(family: &str, change: impl FnOnce(&mut Value)) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("temporary folder");
    let source = folder(family);
    std::fs::copy(source.join("model.safetensors"), copy.path().join("model.safetensors")).expect("copies");
    let text = std::fs::read(source.join("config.json")).expect("reads");
    let mut config: Value = serde_json::from_slice(&text).expect("parses");
    change(&mut config);
    std::fs::write(copy.path().join("config.json"), config.to_string()).expect("writes");
    copy
}

fn refusal(path: &Path) -> String {
    TextModel::load(path, &options(Quantization::None)).err().expect("refused").to_string()
}

#[rstest]
fn weights_take_the_estimated_memory(
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
    #[values(Quantization::None, Quantization::Fp8)] quantization: Quantization,
) {
    let options = options(quantization);
    let source = Source::open(folder(family)).expect("opens");
    let need = source.memory(&options);
    assert_eq!(source.format(&options), quantization.to_string());
    let model = source.load(&options).expect("loads");
    let ratio = need.weights as f64 / model.weight_bytes() as f64;
    println!("{family} in {quantization}: {} said, {} taken", need.weights, model.weight_bytes());
    // Tiny rows: scales take a larger part than in a real model.
    assert!((0.6..1.3).contains(&ratio), "{ratio}");
    assert!(need.peak() > need.weights + need.computing / 2);
}

#[rstest]
fn parameters_are_those_of_the_configuration(
    #[values("llama", "qwen3", "qwen3_moe", "glm4_moe", "glm4_moe_lite", "gemma3", "gemma3_text")]
    family: &str,
) {
    let source = Source::open(folder(family)).expect("opens");
    let expected = expected_tensors(source.config());
    let count: i64 = expected.iter().map(|(_, shape)| shape.iter().product::<i64>()).sum();
    assert_eq!(source.parameters(), count.unsigned_abs());
    for (name, shape) in expected {
        assert_eq!(source.checkpoint().entry(&name).map(|entry| &entry.shape), Some(&shape), "{name}");
    }
}

#[test]
fn a_tensor_of_another_shape_is_named_with_its_file() {
    let copy = changed("qwen3", |config| config["intermediate_size"] = json!(48));
    let error = refusal(copy.path());
    assert!(error.contains("model.safetensors") && error.contains("mlp."), "{error}");
    let copy = changed("qwen3", |config| config["num_hidden_layers"] = json!(4));
    let error = refusal(copy.path());
    assert!(error.contains("model.layers.3.") && error.contains("is not in the checkpoint"), "{error}");
}

#[test]
fn an_unsupported_configuration_is_named_with_its_field() {
    let copy = changed("glm4_moe", |config| config["num_experts_per_tok"] = json!(9));
    let error = refusal(copy.path());
    assert!(error.contains("config.json: num_experts_per_tok is 9"), "{error}");
    let copy = changed("qwen3_vl", |config| config["vision_config"]["out_hidden_size"] = json!(16));
    let error = refusal(copy.path());
    assert!(error.contains("vision_config.out_hidden_size is 16, the text layers are 32 wide"), "{error}");
}

#[test]
fn paths_without_a_checkpoint_are_missing_or_invalid() {
    let empty = tempfile::tempdir().expect("temporary folder");
    assert!(refusal(empty.path()).contains("config.json is missing"));
    assert!(refusal(&empty.path().join("nothing.gguf")).contains("nothing.gguf is missing"));
    std::fs::write(empty.path().join("a.gguf"), b"GGUF").expect("writes");
    assert!(refusal(empty.path()).contains("a.gguf"));
    std::fs::write(empty.path().join("b.gguf"), b"GGUF").expect("writes");
    assert!(refusal(empty.path()).contains("holds 2 GGUF files"));
    std::fs::write(empty.path().join("model.safetensors"), b"").expect("writes");
    std::fs::write(empty.path().join("config.json"), b"{").expect("writes");
    assert!(refusal(empty.path()).contains("config.json"), "safetensors come first");
}

/// A configuration with one layer fewer leaves tensors unused, which is reported.
#[test]
fn unused_tensors_are_reported() {
    let copy = changed("qwen3", |config| {
        config["num_hidden_layers"] = json!(2);
        config["layer_types"] = json!(["full_attention", "full_attention"]);
    });
    let model = TextModel::load(copy.path(), &options(Quantization::None)).expect("loads");
    assert!(!model.unused().is_empty());
    assert!(model.unused().iter().all(|name| name.starts_with("model.layers.2.")), "{:?}", model.unused());
}

/// The cache of quantised weights gives the same model, and is used.
#[test]
fn the_cache_of_quantised_weights_gives_the_same_model() {
    let weight_cache = tempfile::tempdir().expect("temporary folder");
    let options =
        LoadOptions { weight_cache: Some(weight_cache.path().to_owned()), ..options(Quantization::Nvfp4) };
    let golden = support::golden("qwen3_moe").remove(0);
    let logits = || {
        let mut model = TextModel::load(folder("qwen3_moe"), &options).expect("loads");
        model.resize_cache(support::BLOCKS).expect("small");
        let sequence = support::Sequence::new(&golden, &mut support::pool(), golden.tokens.len());
        support::tensor(&model.step(&[sequence.segment(1000, LogitsRequest::All)]).expect("computes"))
    };
    let first = logits();
    let files = || std::fs::read_dir(weight_cache.path()).expect("reads").count();
    assert_eq!(files(), 1);
    assert_eq!(first, logits());
    assert_eq!(files(), 1);
}
