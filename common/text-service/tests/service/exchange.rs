//! A checkpoint that is exchanged while the service runs, and one with which requests could not be answered.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{TestService, TextClient as _, chat};

/// Replaces a file of the checkpoint, as an installation does.
fn replace(service: &TestService, name: &str, change: impl FnOnce(&mut Value)) {
    let path = service.backend.folder.join(name);
    let mut value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path.with_extension("new"), value.to_string()).unwrap();
    std::fs::rename(path.with_extension("new"), path).unwrap();
}

/// Another checkpoint, whose template writes messages in capital letters.
fn exchange(service: &TestService) {
    replace(service, "tokenizer_config.json", |config| {
        let template = config["chat_template"]
            .as_str()
            .unwrap()
            .replace("{{ message.content }}", "{{ message.content | upper }}");
        config["chat_template"] = json!(template);
    });
    replace(service, "config.json", |config| config["_name_or_path"] = json!("fake-capitals"));
}

#[actix_web::test]
async fn an_exchanged_checkpoint_is_used_whole_from_the_next_load_on() {
    let service = TestService::start().await;
    let tester = service.tester();
    let before = tester.chat("hello", json!({})).await.expect(200);
    assert_eq!(before["choices"][0]["message"]["content"], "You said: hello");
    exchange(&service);

    // Until it is unloaded, everything belongs to the old one.
    let same = tester.chat("hello", json!({})).await.expect(200);
    assert_eq!(same["choices"], before["choices"]);
    assert_eq!(same["system_fingerprint"], before["system_fingerprint"]);
    assert_eq!(tester.get("/info").await.expect(200)["checkpoint"], "fake-bytes");
    assert_eq!(tester.get("/v1/models").await.expect(200)["data"][0]["checkpoint"], "fake-bytes");
    assert_eq!(tester.chat("a", json!({"model": "fake-bytes"})).await.status, 200);

    tester.post("/unload", json!({})).await.expect(200);
    for _ in 0..2 {
        let after = tester.chat("hello", json!({})).await.expect(200);
        assert_eq!(after["choices"][0]["message"]["content"], "You said: HELLO");
        assert_ne!(after["system_fingerprint"], before["system_fingerprint"]);
    }
    assert_eq!(tester.get("/info").await.expect(200)["checkpoint"], "fake-capitals");
    assert_eq!(tester.chat("a", json!({"model": "fake-capitals"})).await.status, 200);
    assert_eq!(tester.chat("a", json!({"model": "fake-bytes"})).await.error(404).1, "model_not_found");
    assert!(service.running.drain().await, "engines of both checkpoints end");
}

/// A request that waits in the queue of the old checkpoint's engine is not computed with the new weights.
#[actix_web::test]
async fn what_was_queued_for_the_old_checkpoint_is_refused() {
    let service = TestService::start_with(|test| {
        test.settings.max_sequences = 1;
        test.backend.step_time = Duration::from_millis(20);
    })
    .await;
    let tester = service.tester();
    let (first, second) = (service.tester(), service.tester());
    let running = actix_web::rt::spawn(async move { first.chat("forever", json!({"max_tokens": 60})).await });
    tester.until_running(1).await;
    let waiting = actix_web::rt::spawn(async move { second.chat("hello", json!({})).await });
    tester.until_waiting(1).await;
    exchange(&service);
    tester.post("/unload", json!({})).await.expect(200);
    assert_eq!(running.await.unwrap().status, 200, "what was running has ended");
    assert_eq!(waiting.await.unwrap().error(503).1, "overloaded");
    let after = tester.chat("hello", json!({})).await.expect(200);
    assert_eq!(after["choices"][0]["message"]["content"], "You said: HELLO");
}

/// A change of a configuration file.
type Change = fn(&mut Value);

/// `/load`, `/ready` and `/info` report what every request would fail with.
#[actix_web::test]
async fn a_load_opens_everything_that_a_request_needs() {
    let cases: [(&str, Change, &str); 4] = [
        ("tokenizer.json", |value| *value = json!({}), "tokenizer.json"),
        (
            "tokenizer_config.json",
            |value| value["chat_template"] = json!("{% if %}"),
            "tokenizer_config.json",
        ),
        // The end tokens are 256 and 258, the template writes 257.
        ("config.json", |value| value["vocab_size"] = json!(256), "no token ends an answer"),
        ("config.json", |value| value["vocab_size"] = json!(257), "the chat template writes token 257 ("),
    ];
    for (file, change, reason) in cases {
        let service = TestService::start().await;
        let tester = service.tester();
        replace(&service, file, change);
        for _ in 0..2 {
            let problem = tester.post("/load?wait=true", json!({})).await;
            assert_eq!(problem.code(503), "checkpoint_invalid", "{reason}");
            let ready = tester.get("/ready").await;
            assert_eq!(ready.status, 503);
            assert!(ready.text().contains(reason), "{}", ready.text());
            let info = tester.get("/info").await.json();
            assert!(info["model_error"].as_str().unwrap_or_default().contains(reason), "{info}");
        }
        assert_eq!(tester.chat("hello", json!({})).await.error(503).1, "checkpoint_invalid");
    }
    let service = TestService::start().await;
    std::fs::remove_file(service.backend.folder.join("tokenizer.json")).unwrap();
    assert_eq!(service.tester().post("/load?wait=true", json!({})).await.code(503), "checkpoint_missing");
    // Before the first load, too, the reason is known.
    let service = TestService::start().await;
    std::fs::remove_file(service.backend.folder.join("config.json")).unwrap();
    let ready: Value = serde_json::from_str(&service.anonymous().get("/ready").await.text()).unwrap();
    assert!(ready["reason"].as_str().unwrap().contains("there is no checkpoint"), "{ready}");
    assert_eq!(ready["accepting_jobs"], false);
}

#[actix_web::test]
async fn a_prompt_token_without_an_embedding_is_refused() {
    let service = TestService::start().await;
    // `<think>` (261) has no embedding; the template writes it only on request.
    replace(&service, "config.json", |config| config["vocab_size"] = json!(261));
    let tester = service.tester();
    let body = json!({"model": "fake", "prompt": "<think>x", "max_tokens": 3});
    let refused = tester.post("/v1/completions", body).await;
    assert_eq!(refused.error(400), ("prompt".to_owned(), "invalid_field".to_owned()));
    let message = refused.json()["error"]["message"].clone();
    assert!(message.as_str().unwrap().contains("token 261 (\"<think>\")"), "{message}");
    let body = json!({"model": "fake", "prompt": [260, 261], "max_tokens": 3});
    assert_eq!(tester.post("/v1/completions", body).await.status, 400);
    let body = chat("hello", json!({"chat_template_kwargs": {"enable_thinking": true}}));
    assert_eq!(tester.post("/v1/chat/completions", body).await.error(400).0, "messages");
    assert_eq!(tester.chat("hello", json!({})).await.status, 200);
}
