//! Chat completions, in one piece and in chunks.

use serde_json::{Value, json};
use videosdgx_testing::TestClient;

use crate::support::{TestService, TextClient as _};

#[actix_web::test]
async fn a_response_has_every_field_of_openais() {
    let service = TestService::start().await;
    let answer = service.tester().chat("say hello there", json!({})).await.expect(200);
    assert!(answer["id"].as_str().unwrap().starts_with("chatcmpl-"), "{answer}");
    assert_eq!((&answer["object"], &answer["model"]), (&json!("chat.completion"), &json!("fake")));
    assert!(answer["created"].as_i64().unwrap() > 1_700_000_000);
    assert!(answer["system_fingerprint"].as_str().unwrap().starts_with("fp_"));
    // Absent, not null: null is not valid in OpenAI's schema.
    assert_eq!(answer.get("service_tier"), None);
    assert_eq!(
        answer["choices"],
        json!([{
            "index": 0, "finish_reason": "stop", "stop_reason": null, "logprobs": null,
            "message": {"role": "assistant", "content": "hello there", "refusal": null, "annotations": [],
                        "audio": null},
        }])
    );
    let usage = &answer["usage"];
    assert_eq!(usage["completion_tokens"], 11, "one token per byte: {usage}");
    assert_eq!(
        usage["total_tokens"].as_u64().unwrap(),
        usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap()
    );
    assert!(usage["prompt_tokens_details"]["cached_tokens"].is_u64());
    assert!(usage["completion_tokens_details"]["reasoning_tokens"].is_u64());
}

#[actix_web::test]
async fn chunks_together_are_the_answer() {
    let service = TestService::start().await;
    let tester = service.tester();
    let answer =
        tester.chat("say äöü 🎉!", json!({"stream": true, "stream_options": {"include_usage": true}})).await;
    let chunks = answer.chunks();
    let first = &chunks[0];
    assert_eq!(first["object"], "chat.completion.chunk");
    assert_eq!(
        first["choices"],
        json!([{"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": null, "finish_reason": null}])
    );
    assert_eq!(first["usage"], Value::Null);
    assert!(first.as_object().unwrap().contains_key("usage"), "null, not absent");
    let text: String =
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "äöü 🎉!");
    let ids: Vec<&Value> = chunks.iter().map(|chunk| &chunk["id"]).collect();
    assert!(ids.windows(2).all(|pair| pair[0] == pair[1]));
    let [.., end, usage] = chunks.as_slice() else { panic!() };
    assert_eq!(end["choices"][0]["finish_reason"], "stop");
    assert_eq!(end["choices"][0]["delta"], json!({}));
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["completion_tokens"], "äöü 🎉!".len());
    let without = tester.chat("say x", json!({"stream": true})).await.chunks();
    assert!(without.iter().all(|chunk| !chunk.as_object().unwrap().contains_key("usage")));
}

#[actix_web::test]
async fn an_answer_ends_at_its_length_and_at_a_stop_string() {
    let service = TestService::start().await;
    let tester = service.tester();
    let short = tester.chat("say hello", json!({"max_tokens": 3})).await.expect(200);
    assert_eq!(short["choices"][0]["message"]["content"], "hel");
    assert_eq!(short["choices"][0]["finish_reason"], "length");
    let newer =
        tester.chat("say hello", json!({"max_completion_tokens": 2, "max_tokens": 4})).await.expect(200);
    assert_eq!(newer["choices"][0]["message"]["content"], "he");
    for stop in [json!("lo"), json!(["xyz", "lo"])] {
        let stopped = tester.chat("say hello", json!({"stop": stop})).await.expect(200);
        assert_eq!(stopped["choices"][0]["message"]["content"], "hel");
        assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
        assert_eq!(stopped["choices"][0]["stop_reason"], "lo");
    }
    let chunks = tester.chat("say hello", json!({"stop": "lo", "stream": true})).await.chunks();
    let text: String =
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "hel", "nothing of the stop string is shown");
}

#[actix_web::test]
async fn a_tool_is_called_and_the_call_is_streamed() {
    let service = TestService::start().await;
    let tester = service.tester();
    let tools = json!([{"type": "function", "function": {"name": "weather", "description": "Says the weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]);
    let message = r#"call weather {"city": "Paris"}"#;
    let answer = tester.chat(message, json!({"tools": tools})).await.expect(200);
    let choice = &answer["choices"][0];
    assert_eq!(
        (&choice["finish_reason"], &choice["message"]["content"]),
        (&json!("tool_calls"), &Value::Null)
    );
    let call = &choice["message"]["tool_calls"][0];
    assert_eq!((&call["type"], &call["function"]["name"]), (&json!("function"), &json!("weather")));
    let arguments: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(arguments, json!({"city": "Paris"}));
    let id = call["id"].as_str().unwrap();
    assert!(id.starts_with("call_") && id.len() == 29, "{id}");

    let chunks = tester.chat(message, json!({"tools": tools, "stream": true})).await.chunks();
    let deltas: Vec<&Value> =
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].get(0)).collect();
    assert_eq!(deltas[0]["function"]["name"], "weather");
    let first = &chunks[0]["choices"][0]["delta"];
    assert_eq!((&first["role"], first.get("content")), (&json!("assistant"), Some(&Value::Null)), "{first}");
    assert_eq!(&first["tool_calls"][0], deltas[0], "the first chunk has the call");
    let roles = chunks.iter().filter(|chunk| chunk["choices"][0]["delta"].get("role").is_some());
    assert_eq!(roles.count(), 1);
    // With tools, an answer in text begins as one without.
    for (message, end) in [("say hi", "stop"), ("think hmm | yes", "stop")] {
        let chunks = tester.chat(message, json!({"tools": tools, "stream": true})).await.chunks();
        assert_eq!(
            chunks[0]["choices"][0]["delta"],
            json!({"role": "assistant", "content": ""}),
            "{message}"
        );
        assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], end);
    }
    assert_eq!((&deltas[0]["index"], &deltas[0]["type"]), (&json!(0), &json!("function")));
    let arguments: String =
        deltas.iter().filter_map(|delta| delta["function"]["arguments"].as_str()).collect();
    assert_eq!(serde_json::from_str::<Value>(&arguments).unwrap(), json!({"city": "Paris"}));
    assert!(deltas.len() > 3, "arguments come as they are written: {deltas:?}");
    let end = chunks.last().unwrap();
    assert_eq!(end["choices"][0]["finish_reason"], "tool_calls");

    // `none` forbids calls; `required` and a named tool force one.
    let none = tester.chat(message, json!({"tools": tools, "tool_choice": "none"})).await.expect(200);
    assert!(none["choices"][0]["message"]["content"].as_str().unwrap().contains("<tool_call>"));
    for choice in [json!("required"), json!({"type": "function", "function": {"name": "weather"}})] {
        let more = json!({"tools": tools, "tool_choice": choice, "max_tokens": 400});
        let forced = tester.chat("say nothing", more).await.expect(200);
        let call = &forced["choices"][0]["message"]["tool_calls"][0];
        assert_eq!(call["function"]["name"], "weather", "{choice}: {forced}");
    }
    // The tool's result is part of the next request.
    let back = tester
        .post("/v1/chat/completions", json!({"model": "fake", "temperature": 0, "messages": [
            {"role": "user", "content": "say it is sunny"},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Paris\"}"}}]},
            {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}]}))
        .await
        .expect(200);
    assert!(back["choices"][0]["message"]["content"].as_str().unwrap().starts_with("it is sunny"));
}

#[actix_web::test]
async fn reasoning_is_separate_from_content() {
    let service = TestService::start().await;
    let tester = service.tester();
    for more in [
        json!({}),
        json!({"chat_template_kwargs": {"enable_thinking": true}}),
        json!({"reasoning_effort": "low"}),
    ] {
        let answer = tester.chat("think hmm | yes", more.clone()).await.expect(200);
        let message = &answer["choices"][0]["message"];
        assert_eq!(
            (&message["content"], &message["reasoning_content"]),
            (&json!("yes"), &json!("hmm")),
            "{more}"
        );
        assert!(answer["usage"]["completion_tokens_details"]["reasoning_tokens"].as_u64().unwrap() >= 3);
    }
    let chunks = tester.chat("think hmm | yes", json!({"stream": true})).await.chunks();
    let of = |field: &str| -> String {
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"][field].as_str()).collect()
    };
    assert_eq!((of("content").as_str(), of("reasoning_content").as_str()), ("yes", "hmm"));
}

#[actix_web::test]
async fn an_answer_satisfies_the_requested_constraint() {
    let service = TestService::start().await;
    let tester = service.tester();
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"],
                        "additionalProperties": false});
    let content = async |more: Value| {
        let answer = tester.chat("say what you like", more).await.expect(200);
        answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
    };
    for form in [
        json!({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "strict": true, "schema": schema}}}),
        json!({"guided_json": schema}),
        json!({"structured_outputs": {"json": schema}}),
    ] {
        let mut more = form.clone();
        more["max_tokens"] = json!(300);
        let written = content(more).await;
        let read: Value = serde_json::from_str(&written).unwrap_or_else(|error| panic!("{error}: {written}"));
        assert!(read["a"].is_i64(), "{form}: {written}");
    }
    assert_eq!(content(json!({"guided_regex": "[0-9]{4}"})).await.len(), 4);
    assert_eq!(content(json!({"guided_choice": ["left", "right"]})).await, "left");
    assert_eq!(content(json!({"guided_grammar": "start: \"yes\" | \"no\""})).await, "no");
    assert_eq!(content(json!({"response_format": {"type": "text"}})).await, "what you like");
}

#[actix_web::test]
async fn log_probabilities_come_with_each_token() {
    let service = TestService::start().await;
    let tester = service.tester();
    let answer = tester.chat("say hé", json!({"logprobs": true, "top_logprobs": 2})).await.expect(200);
    let tokens = answer["choices"][0]["logprobs"]["content"].as_array().unwrap();
    let bytes: Vec<u8> = tokens
        .iter()
        .flat_map(|token| token["bytes"].as_array().unwrap().iter().map(|byte| byte.as_u64().unwrap() as u8))
        .collect();
    assert!(String::from_utf8(bytes).unwrap().starts_with("hé"));
    assert_eq!(tokens[0]["token"], "h");
    assert!(tokens[0]["logprob"].as_f64().unwrap() <= 0.0);
    assert_eq!(tokens[0]["top_logprobs"].as_array().unwrap().len(), 2);
    assert_eq!(tokens[0]["top_logprobs"][0]["token"], "h");
    let chunks = tester.chat("say hé", json!({"logprobs": true, "stream": true})).await.chunks();
    let streamed: usize = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["logprobs"]["content"].as_array())
        .map(Vec::len)
        .sum();
    assert_eq!(streamed, tokens.len(), "each token's once, also those whose text was held back");
}

#[actix_web::test]
async fn several_answers_differ_by_seed_and_one_seed_gives_one_text() {
    let service = TestService::start().await;
    let tester = service.tester();
    let asked = json!({"temperature": 1, "seed": 7, "n": 3, "max_tokens": 40});
    let texts = async || {
        let answer = tester.chat("random", asked.clone()).await.expect(200);
        let choices = answer["choices"].as_array().unwrap().clone();
        let prompt = answer["usage"]["prompt_tokens"].as_u64().unwrap();
        assert_eq!(answer["usage"]["completion_tokens"], 120);
        assert!(prompt < 60, "a prompt counts once: {prompt}");
        choices
            .iter()
            .enumerate()
            .map(|(index, choice)| {
                assert_eq!((&choice["index"], &choice["finish_reason"]), (&json!(index), &json!("length")));
                choice["message"]["content"].as_str().unwrap().to_owned()
            })
            .collect::<Vec<_>>()
    };
    let first = texts().await;
    assert!(first[0] != first[1] && first[1] != first[2], "{first:?}");
    assert_eq!(texts().await, first);
    let alone =
        tester.chat("random", json!({"temperature": 1, "seed": 7, "max_tokens": 40})).await.expect(200);
    assert_eq!(alone["choices"][0]["message"]["content"], first[0]);
}

#[actix_web::test]
async fn a_prompt_seen_before_is_found_in_the_cache() {
    let service = TestService::start().await;
    let tester = service.tester();
    let system = "rules ".repeat(40);
    let messages = json!([{"role": "system", "content": system}, {"role": "user", "content": "say a"}]);
    let ask = async |client: &TestClient| {
        let body = json!({"model": "fake", "messages": messages, "temperature": 0});
        let answer = client.post("/v1/chat/completions", body).await.expect(200);
        answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
    };
    assert_eq!(ask(&tester).await, 0);
    assert!(ask(&tester).await >= 200);
    // Another principal is not told what the first one sent.
    assert_eq!(ask(&service.client("somebody-else", "generate")).await, 0);
}

#[actix_web::test]
async fn a_failed_step_is_retried_once_and_then_ends_the_answer() {
    let service = TestService::start().await;
    let tester = service.tester();
    let stumbled = tester.chat("stumble on and on", json!({})).await.expect(200);
    assert_eq!(stumbled["choices"][0]["message"]["content"], "on and on");
    let failed = tester.chat("fail", json!({})).await;
    let body = failed.expect(500);
    assert_eq!(body["error"]["type"], "server_error");
    let stream = tester.chat("fail", json!({"stream": true})).await;
    assert_eq!(stream.status, 200);
    let chunks = stream.chunks();
    let error = chunks.iter().find(|chunk| chunk["type"] == "error").unwrap();
    assert_eq!(
        (&error["error"]["code"], &error["error"]["recoverable"]),
        (&json!("step_failed"), &json!(false))
    );
    assert!(error["error"]["message"].is_string());
}

#[actix_web::test]
async fn logits_that_are_not_numbers_end_the_answer_with_their_own_code() {
    let service = TestService::start().await;
    let tester = service.tester();
    let failed = tester.chat("nan", json!({})).await;
    assert_eq!(failed.error(500).1, "numerical_failure");
    let message = failed.json()["error"]["message"].clone();
    assert!(message.as_str().unwrap().contains("VIDEOSDGX_DTYPE"), "{message}");
    let chunks = tester.chat("nan", json!({"stream": true})).await.chunks();
    let error = chunks.iter().find(|chunk| chunk["type"] == "error").unwrap();
    assert_eq!(error["error"]["code"], "numerical_failure");
    assert_eq!(tester.chat("say a", json!({})).await.status, 200, "others go on");
}
