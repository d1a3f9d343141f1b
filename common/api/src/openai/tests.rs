//! Types as OpenAI's clients send and read them.

use serde_json::{Value, json};

use super::*;

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

#[test]
fn content_and_stop_are_a_text_or_a_list() {
    let message: ChatMessage = read(json!({"role": "user", "content": "a"}));
    assert_eq!(message, ChatMessage::text(Role::User, "a"));
    let parts: ChatMessage = read(json!({"role": "user", "content": [
        {"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "data:"}}]}));
    let Some(Content::Parts(parts)) = parts.content else { panic!() };
    assert_eq!((parts[0].kind, parts[1].kind), (PartKind::Text, PartKind::ImageUrl));
    assert_eq!(read::<Stop>(json!("a")).strings(), ["a"]);
    assert_eq!(read::<Stop>(json!(["a", "b"])).strings(), ["a", "b"]);
    assert!(serde_json::from_value::<Stop>(json!(5)).is_err());
}

#[test]
fn prompts_have_four_forms_that_do_not_mix() {
    for (value, expected) in [
        (json!("a"), CompletionPrompt::Text("a".to_owned())),
        (json!(["a", "b"]), CompletionPrompt::Texts(vec!["a".to_owned(), "b".to_owned()])),
        (json!([1, 2]), CompletionPrompt::Tokens(vec![1, 2])),
        (json!([[1], [2, 3]]), CompletionPrompt::TokenLists(vec![vec![1], vec![2, 3]])),
        (json!([]), CompletionPrompt::Texts(Vec::new())),
    ] {
        assert_eq!(read::<CompletionPrompt>(value.clone()), expected, "{value}");
    }
    for value in [json!(["a", 1]), json!([1, [2]]), json!([-1]), json!([1.5]), json!({"a": 1}), json!(null)] {
        assert!(serde_json::from_value::<CompletionPrompt>(value.clone()).is_err(), "{value}");
    }
}

#[test]
fn tool_choices_round_trip() {
    for value in [
        json!("none"),
        json!("auto"),
        json!("required"),
        json!({"type": "function", "function": {"name": "f"}}),
        json!({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [
            {"type": "function", "function": {"name": "f"}}]}}),
    ] {
        let choice: ToolChoice = read(value.clone());
        assert_eq!(serde_json::to_value(&choice).unwrap(), value);
    }
    for value in [json!("perhaps"), json!({"type": "function"}), json!({"type": "magic"}), json!(5)] {
        assert!(serde_json::from_value::<ToolChoice>(value.clone()).is_err(), "{value}");
    }
}

#[test]
fn unknown_fields_and_nulls_of_a_request_are_accepted() {
    let request: ChatRequest = read(json!({
        "model": "m", "messages": [{"role": "developer", "content": "a", "weight": 1}],
        "temperature": null, "stop": null, "n": null, "colour": "blue"}));
    assert_eq!(request.model.as_deref(), Some("m"));
    assert_eq!((request.temperature, request.stop, request.n), (None, None, None));
    assert_eq!(request.messages[0].role, Role::Developer);
}

#[test]
fn usage_of_a_chunk_is_absent_null_or_present() {
    let chunk = |usage| ChatChunk {
        id: "c".to_owned(),
        object: "chat.completion.chunk".to_owned(),
        created: 1,
        model: "m".to_owned(),
        choices: Vec::new(),
        usage,
        system_fingerprint: None,
    };
    let written = |usage| serde_json::to_value(chunk(usage)).unwrap();
    assert!(!written(None).as_object().unwrap().contains_key("usage"));
    assert_eq!(written(Some(None))["usage"], Value::Null);
    assert!(written(Some(None)).as_object().unwrap().contains_key("usage"));
    let usage = Usage::new(3, 1, 2, 0);
    let there = written(Some(Some(usage)));
    assert_eq!((&there["usage"]["total_tokens"], &there["system_fingerprint"]), (&json!(5), &Value::Null));
    assert_eq!(read::<ChatChunk>(there).usage, Some(Some(usage)));
    assert_eq!(read::<ChatChunk>(written(None)).usage, None);
}

#[test]
fn each_nullable_field_of_an_answer_is_written() {
    let choice = ChatChoice {
        index: 0,
        message: AnswerMessage { role: "assistant".to_owned(), ..AnswerMessage::default() },
        logprobs: None,
        finish_reason: Some(FinishReason::ToolCalls),
        stop_reason: None,
    };
    let written = serde_json::to_value(&choice).unwrap();
    for field in ["logprobs", "stop_reason"] {
        assert_eq!(written.get(field), Some(&Value::Null), "{field}");
    }
    for field in ["content", "refusal", "audio"] {
        assert_eq!(written["message"].get(field), Some(&Value::Null), "{field}");
    }
    assert_eq!(written["finish_reason"], "tool_calls");
}
