//! Conversations that contain the server's own answers, and answers that are continued.

use serde_json::{Value, json};

use crate::support::{TestService, TextClient as _};

fn tools() -> Value {
    json!([{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object",
        "properties": {"city": {"type": "string"}}}}}])
}

/// Whatever the model wrote as arguments, the answer can be sent back.
#[actix_web::test]
async fn an_answer_can_be_sent_back() {
    let service = TestService::start().await;
    let tester = service.tester();
    for (arguments, more) in [
        ("{\"city\": True}", json!({})),
        ("{\"city\": \"Paris\"}", json!({"max_tokens": 60})),
        ("{\"city\": \"Paris\"}", json!({"stop": "Par"})),
        ("null", json!({})),
        ("[1]", json!({})),
        ("\"\"", json!({})),
        ("\"Paris\"", json!({})),
        ("{'city': 'Paris'}", json!({})),
    ] {
        let user = json!({"role": "user", "content": format!("call get_weather {arguments}")});
        let mut body = json!({"model": "fake", "messages": [user], "tools": tools(), "temperature": 0});
        more.as_object().unwrap().iter().for_each(|(key, value)| body[key] = value.clone());
        let answer = tester.post("/v1/chat/completions", body.clone()).await.expect(200);
        let message = &answer["choices"][0]["message"];
        let messages = body["messages"].as_array_mut().unwrap();
        messages.push(message.clone());
        if let Some(calls) = message["tool_calls"].as_array() {
            let result = json!({"role": "tool", "tool_call_id": calls[0]["id"], "content": "error"});
            messages.push(result);
        }
        messages.push(json!({"role": "user", "content": "say ok"}));
        let back = tester.post("/v1/chat/completions", body).await.expect(200);
        let content = back["choices"][0]["message"]["content"].as_str().unwrap();
        assert!(content.starts_with("ok") || content == "o" || !content.is_empty(), "{arguments}: {back}");
    }
}

#[actix_web::test]
async fn arguments_of_any_form_are_accepted() {
    let service = TestService::start().await;
    let tester = service.tester();
    for arguments in [
        json!("null"),
        json!("\"Paris\""),
        json!("[\"Paris\"]"),
        json!("{\"city\": \"Par"),
        json!("{'city': 'Paris'}"),
        json!("{\"city\": \"Paris\",}"),
        json!({"city": "Paris"}),
        json!(null),
    ] {
        let messages = json!([{"role": "user", "content": "hi"},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function",
                "function": {"name": "get_weather", "arguments": arguments}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "error"}, {"role": "user", "content": "say ok"}]);
        let body = json!({"model": "fake", "messages": messages, "tools": tools(), "temperature": 0, "max_tokens": 3});
        let answer = tester.post("/v1/chat/completions", body).await.expect(200);
        assert_eq!(answer["choices"][0]["message"]["content"], "ok", "{arguments}");
    }
}

#[actix_web::test]
async fn reasoning_may_have_both_names() {
    let service = TestService::start().await;
    let tester = service.tester();
    let tokens = async |assistant: Value| {
        let messages =
            json!([{"role": "user", "content": "hi"}, assistant, {"role": "user", "content": "say a"}]);
        let body = json!({"model": "fake", "messages": messages, "max_tokens": 1});
        tester.post("/v1/chat/completions", body.clone()).await.expect(200);
        tester.post("/tokenize", json!({"messages": messages})).await.expect(200)["count"].as_u64().unwrap()
    };
    let both =
        tokens(json!({"role": "assistant", "content": "a", "reasoning": "r", "reasoning_content": "r"}))
            .await;
    for names in [json!({"reasoning": "r"}), json!({"reasoning_content": "r", "reasoning": null})] {
        let mut assistant = json!({"role": "assistant", "content": "a"});
        names.as_object().unwrap().iter().for_each(|(key, value)| assistant[key] = value.clone());
        assert_eq!(tokens(assistant).await, both, "{names}");
    }
    let none =
        tokens(json!({"role": "assistant", "content": "a", "reasoning": null, "reasoning_content": null}))
            .await;
    assert!(none < both);
    // An answer that was only reasoning when it was cut off.
    tokens(json!({"role": "assistant", "content": null, "reasoning_content": "r"})).await;
}

#[actix_web::test]
async fn the_last_message_is_continued() {
    let service = TestService::start().await;
    let tester = service.tester();
    let messages =
        json!([{"role": "user", "content": "say Paris is nice"}, {"role": "assistant", "content": "Par"}]);
    for more in [json!({}), json!({"add_generation_prompt": false})] {
        let mut body =
            json!({"model": "fake", "messages": messages, "continue_final_message": true, "temperature": 0});
        more.as_object().unwrap().iter().for_each(|(key, value)| body[key] = value.clone());
        let answer = tester.post("/v1/chat/completions", body.clone()).await.expect(200);
        assert_eq!(answer["choices"][0]["message"]["content"], "is is nice", "{more}");
        let tokens = tester.post("/tokenize", body).await.expect(200)["tokens"].clone();
        let text = tester.post("/detokenize", json!({"tokens": tokens})).await.expect(200)["prompt"].clone();
        assert!(text.as_str().unwrap().ends_with("<|im_start|>assistant\nPar"), "{text}");
    }
    let both = json!({"model": "fake", "messages": messages, "continue_final_message": true, "add_generation_prompt": true});
    let refused = tester.post("/v1/chat/completions", both).await.error(400);
    assert_eq!(refused.0, "continue_final_message");
    let user = json!({"model": "fake", "messages": [{"role": "user", "content": "hi"}], "continue_final_message": true});
    assert_eq!(tester.post("/v1/chat/completions", user).await.error(400).0, "messages[0]");
}

/// A completion without an output: only the prompt is counted, and echoed if requested.
#[actix_web::test]
async fn a_completion_may_have_no_tokens() {
    let service = TestService::start().await;
    let tester = service.tester();
    let body = json!({"model": "fake", "prompt": ["abc", "a"], "max_tokens": 0, "n": 2, "echo": true});
    let answer = tester.post("/v1/completions", body.clone()).await.expect(200);
    let choices = answer["choices"].as_array().unwrap();
    let texts: Vec<&Value> = choices.iter().map(|choice| &choice["text"]).collect();
    assert_eq!(texts, ["abc", "abc", "a", "a"]);
    assert!(choices.iter().all(|choice| choice["finish_reason"] == "length"));
    assert_eq!(
        (&answer["usage"]["prompt_tokens"], &answer["usage"]["completion_tokens"]),
        (&json!(4), &json!(0))
    );
    let mut streamed = body;
    streamed["stream"] = json!(true);
    streamed["stream_options"] = json!({"include_usage": true});
    let chunks = tester.post("/v1/completions", streamed).await.chunks();
    let text: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str()).collect();
    assert_eq!(text, "abcabcaa");
    assert_eq!(chunks.last().unwrap()["usage"]["prompt_tokens"], 4);
    assert_eq!(service.backend.loads.load(std::sync::atomic::Ordering::Relaxed), 0, "nothing is computed");
    // A chat always has an answer, as documented.
    assert_eq!(tester.chat("say a", json!({"max_tokens": 0})).await.error(400).0, "max_tokens");
}
