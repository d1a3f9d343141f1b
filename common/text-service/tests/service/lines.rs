//! `POST /stream/generate`: one prompt, several, and lines while they arrive.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, TestService, text_of};

fn lines(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of(messages: &[Value], index: u64) -> Vec<Value> {
    messages.iter().filter(|message| message["index"] == index).cloned().collect()
}

#[actix_web::test]
async fn one_prompt_and_several_are_answered_in_lines() {
    let service = TestService::start().await;
    let tester = service.tester();
    let body = json!({"prompt": "abc", "max_tokens": 3, "params": {"temperature": 0}});
    let one = lines(&tester.post("/stream/generate", body).await);
    assert_eq!(text_of(&one), "def");
    let end = one.last().unwrap();
    assert_eq!((&end["type"], &end["finish_reason"]), (&json!("complete"), &json!("length")));
    assert_eq!((&end["summary"]["total_tokens"], &end["prompt_tokens"]), (&json!(3), &json!(3)));
    let many = json!({"prompts": ["abc", "a", "abcdef"], "max_new_tokens": 2, "params": {"temperature": 0}});
    let many = lines(&tester.post("/stream/generate", many).await);
    for (index, expected) in [(0, "de"), (1, "bc"), (2, "gh")] {
        assert_eq!(text_of(&of(&many, index)), expected);
    }
    let chat = json!({"messages": [{"role": "user", "content": "say hi"}], "params": {"temperature": 0}});
    let chat = lines(&tester.post("/stream/generate", chat).await);
    assert_eq!((text_of(&chat).as_str(), &chat.last().unwrap()["finish_reason"]), ("hi", &json!("stop")));
}

#[actix_web::test]
async fn server_sent_events_are_sent_on_request() {
    let service = TestService::start().await;
    let tester = service.tester();
    let body = json!({"prompt": "abc", "max_tokens": 3, "params": {"temperature": 0}});
    let request =
        tester.request(Method::POST, "/stream/generate").header("accept", "text/event-stream").json(&body);
    let answer = tester.send(request).await;
    assert!(answer.header("content-type").starts_with("text/event-stream"));
    let text = answer.text();
    let events: Vec<Value> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    assert_eq!(text_of(&events), "def");
}

#[actix_web::test]
async fn an_invalid_line_is_an_error_with_its_number_and_the_others_continue() {
    let service = TestService::start().await;
    let tester = service.tester();
    let body = [
        r#""abc""#,
        "",
        r#"{"prompt": "a", "max_tokens": 2, "request_id": "mine"}"#,
        "{nonsense",
        r#"{"prompt": 5}"#,
        r#"{"prompt": "a", "params": {"temperature": 9}}"#,
        r#"{"type": "generate", "messages": [{"role": "user", "content": "say x"}]}"#,
    ]
    .join("\n");
    let request = tester
        .request(Method::POST, "/stream/generate")
        .header("content-type", "application/x-ndjson")
        .body(body);
    let messages = lines(&tester.send(request).await);
    assert_eq!(
        of(&messages, 0).last().unwrap()["summary"]["total_tokens"],
        512,
        "the specification's default"
    );
    assert_eq!(text_of(&of(&messages, 1)).len(), 2);
    assert!(of(&messages, 1).iter().all(|message| message["request_id"] == "mine"));
    for (index, line, field) in [(2, 4, None), (3, 5, Some("prompt")), (4, 6, Some("params.temperature"))] {
        let [error] = of(&messages, index).try_into().unwrap();
        assert_eq!((&error["type"], &error["error"]["line"]), (&json!("error"), &json!(line)));
        assert_eq!(error["error"]["field"].as_str(), field, "{error}");
        assert_eq!(error["error"]["recoverable"], false);
    }
    assert_eq!(text_of(&of(&messages, 5)), "x");
}

#[actix_web::test]
async fn lines_are_answered_before_the_body_ends() {
    let service = TestService::start().await;
    let tester = service.tester();
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<String, std::io::Error>>(4);
    let body =
        stream::unfold(
            receiver,
            |mut receiver| async move { receiver.recv().await.map(|line| (line, receiver)) },
        );
    let line = |prompt: &str| {
        Ok(format!("{{\"prompt\": \"{prompt}\", \"max_tokens\": 2, \"params\": {{\"temperature\": 0}}}}\n"))
    };
    sender.send(line("abc")).await.unwrap();
    let response = tester
        .request(Method::POST, "/stream/generate")
        .header("content-type", "application/x-ndjson")
        .body(reqwest::Body::wrap_stream(body))
        .send()
        .await
        .unwrap();
    let mut chunks = response.bytes_stream();
    let mut text = String::new();
    let mut until = async |text: &mut String, index: u64| {
        while !text
            .lines()
            .any(|line| line.contains("complete") && line.contains(&format!("\"index\":{index}")))
        {
            let chunk = tokio::time::timeout(Duration::from_secs(20), chunks.next()).await.unwrap();
            text.push_str(&String::from_utf8_lossy(&chunk.unwrap().unwrap()));
        }
    };
    until(&mut text, 0).await;
    sender.send(line("a")).await.unwrap();
    until(&mut text, 1).await;
    drop(sender);
    assert!(text.contains("\"de\"") || text.contains("\"d\""), "{text}");
}

#[actix_web::test]
async fn the_number_of_concurrent_prompts_is_limited() {
    let service = TestService::start_with(|test| {
        test.settings.max_concurrent_requests = 2;
        test.backend.step_time = Duration::from_millis(1);
    })
    .await;
    let tester = service.tester();
    let body = json!({"prompt": vec!["abc"; 12], "max_tokens": 20});
    let messages = lines(&tester.post("/stream/generate", body).await);
    assert_eq!(messages.iter().filter(|message| message["type"] == "complete").count(), 12);
    assert!(service.backend.largest_batch.load(std::sync::atomic::Ordering::Relaxed) <= 2);
}

/// With one concurrent prompt per request, the second request does not wait for the first.
#[actix_web::test]
async fn the_prompts_of_one_request_do_not_delay_another_request() {
    let service = TestService::start_with(|test| {
        test.settings.max_concurrent_requests = 1;
        test.backend.step_time = Duration::from_millis(5);
    })
    .await;
    let tester = service.tester();
    let body = |tokens| json!({"prompt": "abc", "max_tokens": tokens, "params": {"ignore_eos": true}});
    let mut long = tester.request(Method::POST, "/stream/generate").json(&body(1000)).send().await.unwrap();
    assert!(long.chunk().await.unwrap().is_some(), "the long one is under way and stays so");
    let short = lines(&tester.post("/stream/generate", body(3)).await);
    assert_eq!(short.last().unwrap()["type"], "complete");
    assert_eq!(tester.engine().await["running"], 1, "the long one still runs");
}
