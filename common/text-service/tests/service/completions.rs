//! Text completions, models, tokens.

use serde_json::{Value, json};

use crate::support::{TestService, TextClient as _};

#[actix_web::test]
async fn a_text_is_completed() {
    let service = TestService::start().await;
    let tester = service.tester();
    let body = json!({"model": "fake", "prompt": "abc", "max_tokens": 4, "temperature": 0});
    let answer = tester.post("/v1/completions", body.clone()).await.expect(200);
    assert_eq!(answer["object"], "text_completion");
    assert!(answer["id"].as_str().unwrap().starts_with("cmpl-"));
    assert_eq!(
        answer["choices"],
        json!([{"index": 0, "text": "defg", "logprobs": null, "finish_reason": "length", "stop_reason": null}])
    );
    assert_eq!(
        (&answer["usage"]["prompt_tokens"], &answer["usage"]["completion_tokens"]),
        (&json!(3), &json!(4))
    );
    let sixteen = tester
        .post("/v1/completions", json!({"model": "fake", "prompt": "abc", "temperature": 0}))
        .await
        .expect(200);
    assert_eq!(sixteen["choices"][0]["text"].as_str().unwrap().len(), 16, "OpenAI's default");

    let mut streamed = body;
    streamed["stream"] = json!(true);
    streamed["stream_options"] = json!({"include_usage": true});
    let chunks = tester.post("/v1/completions", streamed).await.chunks();
    let text: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str()).collect();
    assert_eq!(text, "defg");
    assert_eq!(chunks.last().unwrap()["usage"]["total_tokens"], 7);
    assert_eq!(chunks.last().unwrap()["choices"], json!([]));
}

#[actix_web::test]
async fn prompts_are_texts_or_tokens_one_or_many() {
    let service = TestService::start().await;
    let tester = service.tester();
    for (prompt, expected) in [
        (json!("abc"), vec!["defg"]),
        (json!(["abc", "a"]), vec!["defg", "bcde"]),
        (json!([97, 98, 99]), vec!["defg"]),
        (json!([[97], [97, 98]]), vec!["bcde", "cdef"]),
    ] {
        let body = json!({"model": "fake", "prompt": prompt, "max_tokens": 4, "temperature": 0});
        let answer = tester.post("/v1/completions", body).await.expect(200);
        let choices = answer["choices"].as_array().unwrap();
        let texts: Vec<&str> = choices.iter().map(|choice| choice["text"].as_str().unwrap()).collect();
        assert_eq!(texts, expected, "{prompt}");
        assert!(choices.iter().enumerate().all(|(index, choice)| choice["index"] == index));
    }
    let two = json!({"model": "fake", "prompt": ["abc", "a"], "n": 2, "max_tokens": 1, "temperature": 0, "echo": true});
    let answer = tester.post("/v1/completions", two).await.expect(200);
    let texts: Vec<&Value> =
        answer["choices"].as_array().unwrap().iter().map(|choice| &choice["text"]).collect();
    assert_eq!(texts, ["abcd", "abcd", "ab", "ab"]);
    assert_eq!(answer["usage"]["prompt_tokens"], 4);
}

#[actix_web::test]
async fn log_probabilities_have_the_format_of_completions() {
    let service = TestService::start().await;
    let body = json!({"model": "fake", "prompt": "abc", "max_tokens": 2, "temperature": 0, "logprobs": 2});
    let answer = service.tester().post("/v1/completions", body).await.expect(200);
    let logprobs = &answer["choices"][0]["logprobs"];
    assert_eq!(logprobs["tokens"], json!(["d", "e"]));
    assert_eq!(logprobs["text_offset"], json!([0, 1]));
    assert_eq!(logprobs["token_logprobs"].as_array().unwrap().len(), 2);
    assert_eq!(logprobs["top_logprobs"][0].as_object().unwrap().len(), 2);
    assert!(logprobs["top_logprobs"][0]["d"].is_f64());
}

#[actix_web::test]
async fn the_model_has_two_names() {
    let service = TestService::start().await;
    let tester = service.tester();
    let list = tester.get("/v1/models").await.expect(200);
    assert_eq!((&list["object"], &list["data"][0]["id"]), (&json!("list"), &json!("fake")));
    assert_eq!(
        (&list["data"][0]["checkpoint"], &list["data"][0]["kind"]),
        (&json!("fake-bytes"), &json!("text"))
    );
    assert_eq!(tester.get("/v1/models/fake").await.expect(200), list["data"][0]);
    assert_eq!(tester.get("/v1/models/other").await.error(404), ("model".into(), "model_not_found".into()));
    for (model, status) in [("fake", 200), ("fake-bytes", 200), ("gpt-4", 404)] {
        assert_eq!(tester.chat("say a", json!({"model": model})).await.status, status, "{model}");
    }
}

#[actix_web::test]
async fn texts_are_tokenized_and_detokenized() {
    let service = TestService::start().await;
    let tester = service.tester();
    let cut = tester.post("/tokenize", json!({"prompt": "aé", "return_token_strs": true})).await.expect(200);
    assert_eq!((&cut["tokens"], &cut["count"]), (&json!([97, 195, 169]), &json!(3)));
    assert_eq!((&cut["max_model_len"], &cut["token_strs"][0]), (&json!(4096), &json!("a")));
    let back = tester.post("/detokenize", json!({"tokens": [97, 195, 169]})).await.expect(200);
    assert_eq!(back["prompt"], "aé");
    let chat = json!({"messages": [{"role": "user", "content": "a <|im_end|> b"}]});
    let chat = tester.post("/tokenize", chat).await.expect(200);
    let tokens: Vec<u64> = chat["tokens"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
    assert_eq!(tokens.iter().filter(|id| **id == 258).count(), 1, "a user cannot write the end of a message");
    assert_eq!(tester.post("/detokenize", json!({"tokens": [99_999]})).await.error(400).0, "tokens[0]");
    assert_eq!(tester.post("/tokenize", json!({})).await.error(400).0, "prompt");
}
