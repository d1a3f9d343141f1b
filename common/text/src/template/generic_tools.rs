//! Tools for a model whose template has no form for them: the form of Hermes, which most models have seen, as ordinary text.

use serde_json::{Map, Value, json};

use super::json::{Style, dumps};

/// Whether the messages contain calls or results of tools.
pub(super) fn occur_in(messages: &[Value]) -> bool {
    messages.iter().any(|message| message["role"] == "tool" || message.get("tool_calls").is_some())
}

/// Where the tools are described.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the system message, which is added if there is none.
    System,
    /// Before the first message of the user, for templates that refuse system messages.
    User,
}

/// The messages without anything that a template needs a form for: tools become text of the system message, calls text of the
/// assistant, and results messages of the user.
pub(super) fn as_text(messages: Vec<Value>, tools: &[Value], place: Place) -> Vec<Value> {
    let mut converted: Vec<Value> = Vec::with_capacity(messages.len() + 1);
    let mut after_result = false;
    for mut message in messages {
        match message["role"].as_str() {
            Some("assistant") => {
                if let Some(Value::Array(calls)) =
                    message.as_object_mut().and_then(|message| message.remove("tool_calls"))
                {
                    calls.iter().for_each(|call| append(&mut message["content"], "\n", &call_text(call)));
                }
                after_result = false;
            }
            Some("tool") => {
                let mut result = message["content"].take();
                prepend(&mut result, "<tool_response>\n");
                append(&mut result, "", "\n</tool_response>");
                // Many templates require that the roles alternate.
                match converted.last_mut().filter(|_| after_result) {
                    Some(before) => join(&mut before["content"], result),
                    None => converted.push(json!({"role": "user", "content": result})),
                }
                after_result = true;
                continue;
            }
            Some("user") if after_result => {
                after_result = false;
                if let Some(before) = converted.last_mut() {
                    join(&mut before["content"], message["content"].take());
                    continue;
                }
            }
            _ => after_result = false,
        }
        converted.push(message);
    }
    if !tools.is_empty() {
        describe(&mut converted, tools, place);
    }
    converted
}

fn describe(messages: &mut Vec<Value>, tools: &[Value], place: Place) {
    let text = description(tools);
    let has_system = messages.first().is_some_and(|message| message["role"] == "system");
    match place {
        Place::System if has_system => append(&mut messages[0]["content"], "\n\n", &text),
        Place::System => messages.insert(0, json!({"role": "system", "content": text})),
        Place::User => {
            let mut text = text;
            if has_system && let Value::String(rules) = messages.remove(0)["content"].take() {
                text = format!("{rules}\n\n{text}");
            }
            match messages.iter_mut().find(|message| message["role"] == "user") {
                Some(user) => prepend(&mut user["content"], &format!("{text}\n\n")),
                None => messages.insert(0, json!({"role": "user", "content": text})),
            }
        }
    }
}

fn description(tools: &[Value]) -> String {
    let tools: Vec<String> = tools.iter().map(|tool| dumps(tool, &Style::default())).collect();
    format!(
        "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function signatures \
         within <tools></tools> XML tags:\n<tools>\n{}\n</tools>\n\nFor each function call, return a json object with function name and \
         arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n{{\"name\": <function-name>, \"arguments\": \
         <args-json-object>}}\n</tool_call>",
        tools.join("\n")
    )
}

fn call_text(call: &Value) -> String {
    let function = call.get("function").unwrap_or(call);
    let call = Map::from_iter([
        ("name".to_owned(), function["name"].clone()),
        ("arguments".to_owned(), function["arguments"].clone()),
    ]);
    format!("<tool_call>\n{}\n</tool_call>", dumps(&Value::Object(call), &Style::default()))
}

/// Appends `text` to a content, after `between` if it is not empty.
fn append(content: &mut Value, between: &str, text: &str) {
    match content {
        Value::Array(parts) => parts.push(json!({"type": "text", "text": format!("{between}{text}")})),
        Value::String(before) if before.is_empty() => *before = text.to_owned(),
        Value::String(before) => {
            before.push_str(between);
            before.push_str(text);
        }
        other => *other = Value::from(text),
    }
}

fn prepend(content: &mut Value, text: &str) {
    match content {
        Value::Array(parts) => parts.insert(0, json!({"type": "text", "text": text})),
        Value::String(after) => after.insert_str(0, text),
        other => *other = Value::from(text),
    }
}

/// Appends another content on a new line.
fn join(content: &mut Value, more: Value) {
    match more {
        Value::Array(more) => {
            append(content, "\n", "");
            let before = match content.take() {
                Value::Array(parts) => parts,
                text => vec![json!({"type": "text", "text": text})],
            };
            *content = Value::Array(before.into_iter().chain(more).collect());
        }
        Value::String(more) => append(content, "\n", &more),
        _ => {}
    }
}
