//! A GGUF file of Gemma 3, as llama.cpp converts it, is the same model as the published files.

mod support;

#[path = "../../gguf/tests/file/mod.rs"]
#[allow(dead_code, clippy::allow_attributes, reason = "a part is used here")]
mod file;

use std::path::Path;

use file::{FileBuilder, Metadata};
use serde_json::{Value, json};
use support::{Sequence, device, folder, golden, pool, relative};
use videosdgx_decoder::{Activation, Layout, LoadOptions, RopeScaling, Source};
use videosdgx_decoder_api::{Decoder, LogitsRequest};
use videosdgx_gguf::GgmlType;
use videosdgx_tensor::{Kind, Quantization, Tensor};

/// llama.cpp's name of a tensor in a published file; the last part of the name stays.
fn gguf_name(name: &str) -> Option<String> {
    let name = name.strip_prefix("language_model.model.")?;
    let renamed = name
        .replace("embed_tokens", "token_embd")
        .replace("layers.", "blk.")
        .replace("input_layernorm", "attn_norm")
        .replace("post_attention_layernorm", "post_attention_norm")
        .replace("pre_feedforward_layernorm", "ffn_norm")
        .replace("post_feedforward_layernorm", "post_ffw_norm")
        .replace("self_attn.q_norm", "attn_q_norm")
        .replace("self_attn.k_norm", "attn_k_norm")
        .replace("self_attn.o_proj", "attn_output")
        .replace("self_attn.", "attn_")
        .replace("mlp.", "ffn_")
        .replace("_proj", "");
    Some(if renamed == "norm.weight" { "output_norm.weight".to_owned() } else { renamed })
}

/// The file with the fixture's tensors in f32; llama.cpp's conversion adds 1 to the weights of norms.
fn convert(tensors: &[(String, Tensor)]) -> Vec<u8> {
    let sizes = [
        ("block_count", 3),
        ("context_length", 512),
        ("embedding_length", 32),
        ("feed_forward_length", 40),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
        ("attention.key_length", 12),
        ("attention.value_length", 12),
        ("attention.sliding_window", 6),
    ];
    let numbers =
        [("attention.layer_norm_rms_epsilon", 1e-6), ("rope.freq_base", 1e6), ("rope.scaling.factor", 8.0)];
    let text = |text: &str| Metadata::String(text.to_owned());
    let mut builder = FileBuilder::default()
        .with("general.architecture", text("gemma3"))
        .with("gemma3.rope.scaling.type", text("linear"));
    for (key, size) in sizes {
        builder = builder.with(&format!("gemma3.{key}"), Metadata::U32(size));
    }
    for (key, number) in numbers {
        builder = builder.with(&format!("gemma3.{key}"), Metadata::F32(number));
    }
    let mut data = Vec::new();
    for (name, tensor) in tensors {
        let Some(name) = gguf_name(name) else { continue };
        let tensor = tensor.to_kind(Kind::Float);
        let tensor = if name.contains("norm") { tensor + 1.0 } else { tensor };
        let dims: Vec<u64> = tensor.size().iter().rev().map(|&size| size as u64).collect();
        let values = Vec::<f32>::try_from(tensor.flatten(0, -1)).expect("numbers");
        let bytes: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
        builder = builder.tensor(&name, &dims, GgmlType::F32, data.len() as u64, bytes.len() as u64);
        data.extend(bytes);
        data.resize(data.len().next_multiple_of(32), 0);
    }
    let (mut file, start) = builder.build();
    file.truncate(start as usize);
    file.extend(data);
    file
}

/// Logits of the longest prompt.
fn logits(path: &Path, layout: Layout) -> Tensor {
    let source = Source::open(path).expect("opens");
    assert_eq!((source.layout(), source.config().block.activation), (layout, Activation::GeluTanh));
    assert_eq!(source.config().rope.scaling, RopeScaling::Linear(8.0));
    let mut model = source.load(&LoadOptions::new(device(), Kind::Float, Quantization::None)).expect("loads");
    assert_eq!(model.unused(), [""; 0]);
    model.resize_cache(support::BLOCKS).expect("small");
    let golden = golden("gemma3").remove(2);
    let sequence = Sequence::new(&golden, &mut pool(), golden.tokens.len());
    support::tensor(&model.step(&[sequence.segment(1000, LogitsRequest::All)]).expect("computes"))
}

#[test]
fn a_converted_file_is_the_same_model() {
    let published = tempfile::tempdir().expect("temporary folder");
    let source = folder("gemma3");
    let mut config: Value =
        serde_json::from_slice(&std::fs::read(source.join("config.json")).expect("reads")).expect("parses");
    // What a GGUF file cannot say: llama.cpp has the published values.
    config["text_config"]["sliding_window_pattern"] = json!(6);
    config["text_config"]["query_pre_attn_scalar"] = json!(12);
    std::fs::write(published.path().join("config.json"), config.to_string()).expect("writes");
    let weights = published.path().join("model.safetensors");
    std::fs::copy(source.join("model.safetensors"), &weights).expect("copies");
    let converted = published.path().join("converted.gguf");
    let expected = logits(published.path(), Layout::Transformers);
    std::fs::write(&converted, convert(&Tensor::read_safetensors(weights).expect("reads"))).expect("writes");
    let error = relative(&logits(&converted, Layout::Gguf), &expected);
    assert!(error < 1e-5, "{error:.2e}");
}
