//! A conversation about pictures over HTTP gives the same answer as Hugging Face transformers (fixtures of
//! `tests/reference/vision.py`).

mod support;

use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use support::Service;

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/vision").join(path)
}

fn golden() -> Value {
    serde_json::from_slice(&std::fs::read(fixture("chat.json")).expect("is committed")).expect("JSON")
}

fn data_uri(bytes: &[u8]) -> String {
    format!("data:image/png;base64,{}", STANDARD.encode(bytes))
}

fn picture(name: &str) -> Vec<u8> {
    std::fs::read(fixture("images").join(name)).expect("is committed")
}

/// The golden conversation in OpenAI's format.
fn conversation() -> Value {
    let mut messages = golden()["messages"].clone();
    for part in messages[1]["content"].as_array_mut().expect("parts") {
        if let Some(name) = part["image"].as_str() {
            *part = json!({"type": "image_url", "image_url": {"url": data_uri(&picture(name))}});
        }
    }
    messages
}

fn about(url: &str) -> Value {
    json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "?"}]}])
}

#[actix_web::test]
async fn answers_equal_those_of_transformers() {
    let (service, golden) = (Service::start(&fixture("model")).await, golden());
    // The second request uses the cached prompt and features.
    for _ in 0..2 {
        let (status, answer) = service.chat(&conversation(), &json!({"temperature": 0})).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["choices"][0]["message"]["content"], golden["answer"], "{answer}");
        assert_eq!(answer["usage"]["prompt_tokens"], golden["prompt_tokens"], "{answer}");
        assert_eq!(answer["choices"][0]["finish_reason"], "length");
    }
    // A different picture gives a different answer: cached features of the first one are not used.
    let mut other = conversation();
    other[1]["content"][1]["image_url"]["url"] = json!(data_uri(&picture("palette.png")));
    let (status, answer) = service.chat(&other, &json!({"temperature": 0})).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["usage"]["prompt_tokens"], golden["prompt_tokens"], "of the same size");
    assert_ne!(answer["choices"][0]["message"]["content"], golden["answer"]);
    assert!(service.running.drain().await);
}

#[actix_web::test]
async fn invalid_pictures_are_refused_with_their_field() {
    let service = Service::start(&fixture("model")).await;
    let whole = picture("rgb.png");
    let mut huge = whole.clone();
    huge[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    for url in [
        data_uri(&whole[..whole.len() / 2]),
        data_uri(&huge),
        data_uri(b"GIF89a"),
        "https://127.0.0.1/a.png".to_owned(),
        "http://example.org/a.png".to_owned(),
        "file:///etc/passwd".to_owned(),
    ] {
        let (status, answer) = service.chat(&about(&url), &json!({})).await;
        assert_eq!(status, 400, "{url}: {answer}");
        let field = answer["error"]["param"].as_str().unwrap_or_default();
        assert!(field.starts_with("messages[0].content[0]"), "{url}: {answer}");
    }
    // Sixteen pictures exceed the context.
    let part = json!({"type": "image_url", "image_url": {"url": data_uri(&whole)}});
    let many = json!([{"role": "user", "content": vec![part; 16]}]);
    let (status, answer) = service.chat(&many, &json!({"max_tokens": 300})).await;
    assert_eq!(
        (status.as_u16(), answer["error"]["code"].as_str()),
        (400, Some("context_length_exceeded")),
        "{answer}"
    );
    assert!(service.running.drain().await);
}
