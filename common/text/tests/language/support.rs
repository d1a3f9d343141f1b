//! Fixtures of `tests/reference/language.py`.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::Value;
use videosdgx_text::Tokenizer;

pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/language").join(name)
}

pub(crate) fn read(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).expect("the fixture is committed")
}

pub(crate) fn json(name: &str) -> Value {
    serde_json::from_slice(&read(name)).expect("JSON")
}

/// A small byte-level vocabulary like Qwen's.
pub(crate) fn qwen() -> Tokenizer {
    static LOADED: LazyLock<Tokenizer> = LazyLock::new(load_qwen);
    LOADED.clone()
}

fn load_qwen() -> Tokenizer {
    Tokenizer::from_json(&read("tokenizer.json"), None, Some("<|im_end|>")).expect("a tokenizer")
}

/// A small vocabulary like SentencePiece's, with byte fallback.
pub(crate) fn llama() -> Tokenizer {
    Tokenizer::from_json(&read("llama.json"), Some("<s>"), Some("</s>")).expect("a tokenizer")
}

/// The GGUF file that `scripts/setup` downloads.
pub(crate) fn smollm2() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../checkpoints/smollm2-135m/SmolLM2-135M-Instruct.Q4_1.gguf")
}
