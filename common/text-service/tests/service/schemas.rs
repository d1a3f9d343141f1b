//! Every answer and every event of a stream is valid in OpenAI's published schemas.

use reqwest::Method;
use serde_json::{Value, json};
use videosdgx_testing::{OpenAiAnswer, TestClient};

use crate::support::{TestService, TextClient as _};

/// Messages of chats with further fields: text, tool calls, reasoning, constraints, log probabilities, several answers.
fn chats() -> Vec<(&'static str, Value)> {
    let tools = json!([{"type": "function", "function": {"name": "weather", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]);
    let two = "call weather {\"city\": \"Paris\"}";
    vec![
        ("say hello", json!({})),
        ("say hello", json!({"max_tokens": 2})),
        ("say hello", json!({"stop": "l"})),
        ("say hé", json!({"logprobs": true, "top_logprobs": 3})),
        ("random", json!({"n": 3, "temperature": 1, "seed": 1, "max_tokens": 5})),
        ("think hmm | yes", json!({})),
        ("think hmm | yes", json!({"max_tokens": 4, "logprobs": true})),
        (two, json!({"tools": tools})),
        (two, json!({"tools": tools, "logprobs": true})),
        ("say no call", json!({"tools": tools})),
        ("say x", json!({"tools": tools, "tool_choice": "required", "max_tokens": 400})),
        ("say x", json!({"guided_choice": ["left", "right"]})),
        ("say x", json!({"response_format": {"type": "json_object"}, "max_tokens": 30})),
    ]
}

/// A stream's events; an event of an error has the schema of errors.
async fn assert_events_are_valid(tester: &TestClient, path: &str, mut body: Value, event: OpenAiAnswer) {
    for options in [Value::Null, json!({"include_usage": true})] {
        body["stream"] = json!(true);
        body["stream_options"] = options;
        let chunks = tester.post(path, body.clone()).await.chunks();
        assert!(!chunks.is_empty());
        for chunk in chunks {
            if chunk.get("error").is_some() { OpenAiAnswer::ErrorResponse } else { event }
                .assert_valid(&chunk);
        }
    }
}

#[actix_web::test]
async fn chats_are_valid() {
    let service = TestService::start().await;
    let tester = service.tester();
    for (message, more) in chats() {
        let answer = tester.chat(message, more.clone()).await.expect(200);
        OpenAiAnswer::CreateChatCompletionResponse.assert_valid(&answer);
        let body = crate::support::chat(message, more);
        let event = OpenAiAnswer::CreateChatCompletionStreamResponse;
        assert_events_are_valid(&tester, "/v1/chat/completions", body, event).await;
    }
    let event = OpenAiAnswer::CreateChatCompletionStreamResponse;
    let failing = crate::support::chat("fail", json!({}));
    assert_events_are_valid(&tester, "/v1/chat/completions", failing, event).await;
}

#[actix_web::test]
async fn completions_are_valid() {
    let service = TestService::start().await;
    let tester = service.tester();
    for more in [
        json!({"prompt": "abc"}),
        json!({"prompt": ["abc", "a"], "n": 2, "echo": true}),
        json!({"prompt": "abc", "logprobs": 2}),
        json!({"prompt": [97, 98], "stop": "e", "max_tokens": 40}),
    ] {
        let mut body = more.clone();
        body["model"] = json!("fake");
        body["temperature"] = json!(0);
        let answer = tester.post("/v1/completions", body.clone()).await.expect(200);
        OpenAiAnswer::CreateCompletionResponse.assert_valid(&answer);
        let event = OpenAiAnswer::CreateCompletionStreamResponse;
        assert_events_are_valid(&tester, "/v1/completions", body, event).await;
    }
}

#[actix_web::test]
async fn models_and_errors_are_valid() {
    let service = TestService::start().await;
    let tester = service.tester();
    OpenAiAnswer::ListModelsResponse.assert_valid(&tester.get("/v1/models").await.expect(200));
    OpenAiAnswer::Model.assert_valid(&tester.get("/v1/models/fake").await.expect(200));
    for (answer, status) in [
        (tester.chat("say a", json!({"temperature": "hot"})).await, 400),
        (tester.chat(&"a".repeat(100_000), json!({})).await, 400),
        (tester.chat("fail", json!({})).await, 500),
        (tester.chat("say a", json!({"model": "other"})).await, 404),
        (tester.get("/v1/models/other").await, 404),
        (tester.get("/v1/nothing").await, 404),
        (tester.get("/v1/completions").await, 405),
        (tester.send(tester.request(Method::POST, "/v1/completions").body("{}")).await, 415),
        (service.anonymous().get("/v1/models").await, 401),
        (service.client("reader", "read").chat("say a", json!({})).await, 403),
    ] {
        OpenAiAnswer::ErrorResponse.assert_valid(&answer.expect(status));
    }
}
