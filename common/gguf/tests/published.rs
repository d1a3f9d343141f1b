//! The header of the demonstration checkpoint.

use std::path::PathBuf;

use videosdgx_gguf::{GgmlType, Gguf};

#[test]
fn the_demonstration_checkpoint_is_read() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../checkpoints/smollm2-135m/SmolLM2-135M-Instruct.Q4_1.gguf");
    if !path.is_file() {
        eprintln!("skipped: {} is missing; scripts/setup fetches it", path.display());
        return;
    }
    let gguf = Gguf::open(&path).expect("opens");
    assert_eq!(gguf.architecture(), Some("llama"));
    assert_eq!(gguf.u32("llama.block_count"), Some(30));
    assert_eq!(gguf.u32("llama.attention.head_count_kv"), Some(3));
    assert_eq!(gguf.f32("llama.rope.freq_base"), Some(1e5));
    let words = gguf.strings("tokenizer.ggml.tokens").expect("a vocabulary");
    assert_eq!(words.len(), 49_152);
    assert_eq!(gguf.i32s("tokenizer.ggml.token_type").map(|kinds| kinds.len()), Some(49_152));
    assert!(gguf.str("tokenizer.chat_template").is_some_and(|template| template.contains("<|im_start|>")));
    let count = |kind| gguf.tensors().iter().filter(|tensor| tensor.kind == kind).count();
    assert_eq!((count(GgmlType::Q4_1), count(GgmlType::F32), count(GgmlType::Q8_0)), (210, 61, 1));
    let table = gguf.tensor("token_embd.weight").expect("the embedding");
    assert_eq!((table.shape.as_slice(), table.kind), ([49_152, 576].as_slice(), GgmlType::Q8_0));
}
