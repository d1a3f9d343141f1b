//! An invalid request gets status 400 with the name of the field, before anything is computed.

use serde_json::{Value, json};

use crate::support::{TestService, TextClient as _, chat};

#[actix_web::test]
async fn each_invalid_field_of_a_chat_is_named() {
    let service = TestService::start().await;
    let tester = service.tester();
    let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}]);
    let tool = |name: &str| json!([{"type": "function", "function": {"name": name}}]);
    let messages = vec![json!({"role": "user", "content": "a"}); 8193];
    let biases: serde_json::Map<String, Value> = (0..1025).map(|id| (id.to_string(), json!(1))).collect();
    for (more, field) in [
        (json!({"messages": messages}), "messages"),
        (json!({"logit_bias": biases}), "logit_bias"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": "hello"}), "messages"),
        (json!({"messages": [{"role": "king", "content": "a"}]}), "messages[0].role"),
        (json!({"messages": [{"role": "user", "content": 5}]}), "messages[0].content"),
        (json!({"messages": [{"role": "user"}]}), "messages[0].content"),
        (json!({"messages": [{"role": "user", "content": "that is forbidden"}]}), "messages"),
        (json!({"messages": image}), "messages[0].content[0].image_url"),
        (json!({"temperature": "hot"}), "temperature"),
        (json!({"temperature": 2.5}), "temperature"),
        (json!({"top_p": 0}), "top_p"),
        (json!({"max_tokens": -1}), "max_tokens"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"max_completion_tokens": 1.5}), "max_completion_tokens"),
        (json!({"n": 99}), "n"),
        (json!({"stop": ["a", "b", "c", "d", "e"]}), "stop"),
        (json!({"stop": [1]}), "stop[0]"),
        (json!({"stop": "x".repeat(300)}), "stop"),
        (json!({"top_logprobs": 2}), "top_logprobs"),
        (json!({"logprobs": true, "top_logprobs": 21}), "top_logprobs"),
        (json!({"logit_bias": {"a": 1}}), "logit_bias"),
        (json!({"stream_options": {"include_usage": true}}), "stream_options"),
        (json!({"response_format": {"type": "xml"}}), "response_format.type"),
        (json!({"response_format": {"type": "json_schema"}}), "response_format.json_schema"),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "nonsense"}}}}),
            "response_format",
        ),
        (json!({"guided_regex": "("}), "guided_regex"),
        (json!({"guided_grammar": "start: nowhere"}), "guided_grammar"),
        (json!({"guided_regex": "a", "guided_choice": ["b"]}), "guided_choice"),
        (json!({"tools": tool("a b")}), "tools[0].function.name"),
        (json!({"tools": [{"type": "function"}]}), "tools[0].function"),
        (
            json!({"tools": tool("a"), "tool_choice": {"type": "function", "function": {"name": "b"}}}),
            "tool_choice.function.name",
        ),
        (json!({"tools": tool("a"), "tool_choice": "perhaps"}), "tool_choice"),
        (json!({"tool_choice": "required"}), "tool_choice"),
        (json!({"model": null}), "model"),
        (json!({"functions": [{"name": "f", "parameters": {}}]}), "functions"),
        (json!({"function_call": "auto"}), "function_call"),
        (
            json!({"messages": [
                {"role": "user", "content": "say a"},
                {"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": "{}"}},
            ]}),
            "messages[1].function_call",
        ),
        (json!({"reasoning_effort": "huge"}), "reasoning_effort"),
        (json!({"priority": 11}), "priority"),
        (json!({"stop_token_ids": [5000]}), "stop_token_ids[0]"),
    ] {
        let answer = tester.post("/v1/chat/completions", chat("say a", more.clone())).await;
        let (param, code) = answer.error(400);
        assert_eq!(param, field, "{more}: {}", answer.text());
        assert!(matches!(code.as_str(), "invalid_field"), "{more}: {code}");
    }
    assert_eq!(tester.engine().await["generated_tokens"], 0, "nothing was computed");
}

#[actix_web::test]
async fn unknown_fields_and_nulls_are_accepted() {
    let service = TestService::start().await;
    let more = json!({"colour": "blue", "user": "ann", "metadata": {"a": "b"}, "store": true, "service_tier": "auto",
        "top_p": null, "stop": null, "tools": null, "response_format": null, "functions": null, "function_call": null, "seed": null, "logit_bias": null,
        "stream": null, "stream_options": null, "parallel_tool_calls": false, "max_tokens": null});
    let answer = service.tester().chat("say a", more).await.expect(200);
    assert_eq!(answer["choices"][0]["message"]["content"], "a");
}

#[actix_web::test]
async fn errors_about_the_context_contain_its_size() {
    let service = TestService::start_with(|test| test.backend.max_context = 256).await;
    let tester = service.tester();
    let long = tester.chat(&"a".repeat(300), json!({})).await;
    assert_eq!(long.error(400).1, "context_length_exceeded");
    // Clients (litellm) recognise the condition by OpenAI's sentence.
    let begins = |message: &Value| {
        let message = message["error"]["message"].as_str().unwrap();
        assert!(
            message.starts_with("This model's maximum context length is 256 tokens. However, "),
            "{message}"
        );
    };
    begins(&long.json());
    let many = tester.chat("say a", json!({"max_tokens": 250})).await;
    assert_eq!(many.error(400), ("max_tokens".into(), "context_length_exceeded".into()));
    begins(&many.json());
    assert!(many.text().contains("250 in the completion"), "{}", many.text());
    let rest = tester.chat("forever", json!({})).await.expect(200);
    assert_eq!(rest["usage"]["total_tokens"], 256, "by default an answer may fill the context");
    assert_eq!(rest["choices"][0]["finish_reason"], "length");
    let completion = json!({"model": "fake", "prompt": "a".repeat(300)});
    let long = tester.post("/v1/completions", completion).await;
    assert_eq!(long.error(400), ("prompt".into(), "context_length_exceeded".into()));
    begins(&long.json());
}

#[actix_web::test]
async fn each_invalid_field_of_a_completion_is_named() {
    let service = TestService::start().await;
    let tester = service.tester();
    let no_model = tester.post("/v1/completions", json!({"prompt": "a"})).await;
    assert_eq!(no_model.error(400).0, "model");
    for (mut body, field) in [
        (json!({}), "prompt"),
        (json!({"prompt": 5}), "prompt"),
        (json!({"prompt": []}), "prompt"),
        (json!({"prompt": ""}), "prompt"),
        (json!({"prompt": ["a", 5]}), "prompt"),
        (json!({"prompt": ["a", ""]}), "prompt[1]"),
        (json!({"prompt": [999_999]}), "prompt"),
        (json!({"prompt": "a", "suffix": "b"}), "suffix"),
        (json!({"prompt": "a", "best_of": 2}), "best_of"),
        (json!({"prompt": "a", "logprobs": 6}), "logprobs"),
        (json!({"prompt": "a", "echo": true, "logprobs": 1}), "logprobs"),
        (json!({"prompt": vec!["a"; 100], "n": 2}), "n"),
    ] {
        body["model"] = json!("fake");
        let answer = tester.post("/v1/completions", body.clone()).await;
        assert_eq!(answer.error(400).0, field, "{body}: {}", answer.text());
    }
}

#[actix_web::test]
async fn bodies_that_are_not_json_are_refused_in_openais_format() {
    let service = TestService::start().await;
    let tester = service.tester();
    for body in ["", "{", "[]", "null", "\"a\"", "{\"messages\": [{}]} x"] {
        let request = tester.request(reqwest::Method::POST, "/v1/chat/completions");
        let request = request.header("content-type", "application/json").body(body);
        let answer = tester.send(request).await;
        let error: Value = answer.expect(400)["error"].clone();
        assert_eq!(error["type"], "invalid_request_error", "{body}");
    }
    let other = tester.request(reqwest::Method::POST, "/v1/chat/completions").body("{}");
    assert_eq!(tester.send(other).await.error(415).1, "unsupported_media_type");
}

#[actix_web::test]
async fn a_full_queue_is_429_with_retry_after() {
    let service = TestService::start_with(|test| {
        test.settings.max_sequences = 1;
        test.settings.queue_capacity = 1;
    })
    .await;
    let tester = service.tester();
    let mut open = Vec::new();
    let mut refused = None;
    for _ in 0..4 {
        let body = chat("forever", json!({"stream": true}));
        let response =
            tester.request(reqwest::Method::POST, "/v1/chat/completions").json(&body).send().await.unwrap();
        if response.status() == 200 {
            open.push(response);
        } else {
            refused = Some(videosdgx_testing::TestResponse::of(response).await);
        }
    }
    let refused = refused.unwrap();
    assert_eq!(refused.error(429).1, "queue_full");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert_eq!(refused.json()["error"]["type"], "rate_limit_error");
    // No work is spent on its prompt, which is too long.
    let long = tester.chat(&"x".repeat(100_000), json!({})).await;
    assert_eq!(long.error(429).1, "queue_full");
}
