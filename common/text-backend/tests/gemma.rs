//! A conversation with a Gemma 3 checkpoint in the published layout gives the same answer as Hugging Face transformers
//! (fixtures of `tests/reference/ltx2_text.py`).

mod support;

use std::path::Path;

use serde_json::{Value, json};
use support::Service;
use tempfile::TempDir;

/// Text encoder and tokenizer of the fixture in one folder, as language models are published, and its conversation.
fn checkpoint() -> (TempDir, Value) {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/ltx2-text");
    let folder = tempfile::tempdir().expect("a folder");
    for part in ["text_encoder", "tokenizer"] {
        for entry in std::fs::read_dir(fixture.join(part)).expect("is committed") {
            let file = entry.expect("reads").path();
            let name = file.file_name().expect("a file");
            std::fs::copy(&file, folder.path().join(name)).expect("copies");
        }
    }
    let chat = std::fs::read(fixture.join("chat.json")).expect("is committed");
    (folder, serde_json::from_slice(&chat).expect("JSON"))
}

#[actix_web::test]
async fn the_answer_is_the_references_and_ends_with_the_turn() {
    let (folder, golden) = checkpoint();
    let service = Service::start(folder.path()).await;
    let (status, answer) = service.chat(&golden["messages"], &json!({"temperature": 0})).await;
    assert_eq!(status, 200, "{answer}");
    let count = |name: &str| golden[name].as_array().map(Vec::len);
    let usage = |name: &str| answer["usage"][name].as_u64().and_then(|count| usize::try_from(count).ok());
    assert_eq!(usage("prompt_tokens"), count("ids"), "{answer}");
    // The end of the turn is not counted.
    assert_eq!(usage("completion_tokens"), count("new").map(|count| count - 1), "{answer}");
    assert_eq!(answer["choices"][0]["message"]["content"], golden["answer"], "{answer}");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop", "{answer}");
    // The template refuses turns that do not alternate.
    let twice = json!([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]);
    let (status, answer) = service.chat(&twice, &json!({})).await;
    let message = answer["error"]["message"].as_str().unwrap_or_default();
    assert!(status == 400 && message.contains("roles must alternate"), "{answer}");
    assert!(service.running.drain().await);
}
