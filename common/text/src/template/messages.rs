//! Normalisation of messages for templates.

use serde_json::{Map, Value};

use super::TemplateError;
use super::rendered::{CLOSE, END, OPEN};
use crate::Tokenizer;

/// What a template does with parts of messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Abilities {
    pub(super) takes_images: bool,
    /// It writes arguments of tool calls that are a string as they are.
    pub(super) takes_text_arguments: bool,
}

/// Validates messages and converts them to the form that templates expect: arguments of tool calls as objects, images as
/// `{"type": "image"}`, and, for text-only templates, lists of text parts as one string with a line per part.
pub(super) fn normalize(messages: &[Value], abilities: Abilities) -> Result<Vec<Value>, TemplateError> {
    let Abilities { takes_images, takes_text_arguments } = abilities;
    if messages.is_empty() {
        return Err(wrong("messages", "must have at least one message"));
    }
    messages
        .iter()
        .enumerate()
        .map(|(number, message)| {
            let field = format!("messages[{number}]");
            let Value::Object(message) = message else { return Err(wrong(&field, "must be an object")) };
            let mut message = message.clone();
            if !message.get("role").is_some_and(Value::is_string) {
                return Err(wrong(&format!("{field}.role"), "must be a string"));
            }
            // The reasoning of an earlier answer has several names; templates read the first.
            let reasoning = ["reasoning_content", "thinking", "reasoning"]
                .into_iter()
                .find_map(|name| message.get(name).filter(|reasoning| !reasoning.is_null()).cloned());
            if let Some(reasoning) = reasoning {
                message.insert("reasoning_content".to_owned(), reasoning);
            }
            let content = message.get("content").cloned().unwrap_or(Value::Null);
            message.insert(
                "content".to_owned(),
                content_of(content, &format!("{field}.content"), takes_images)?,
            );
            if let Some(Value::Array(calls)) = message.get_mut("tool_calls") {
                for (number, call) in calls.iter_mut().enumerate() {
                    parse_arguments(call, &format!("{field}.tool_calls[{number}]"), takes_text_arguments)?;
                }
            } else if message.get("tool_calls").is_some_and(Value::is_null) {
                // `null` means absent, but templates test `is defined`.
                message.remove("tool_calls");
            }
            Ok(Value::Object(message))
        })
        .collect()
}

fn content_of(content: Value, field: &str, takes_images: bool) -> Result<Value, TemplateError> {
    let parts = match content {
        // Templates concatenate the content; with tool calls it is usually an empty string.
        Value::Null => return Ok(Value::String(String::new())),
        Value::String(_) => return Ok(content),
        Value::Array(parts) => parts,
        _ => return Err(wrong(field, "must be a string or a list of parts")),
    };
    let mut kept = Vec::with_capacity(parts.len());
    for (number, part) in parts.into_iter().enumerate() {
        let field = format!("{field}[{number}]");
        match part.get("type").and_then(Value::as_str) {
            Some("text") if part["text"].is_string() => kept.push(part),
            Some("text") => return Err(wrong(&format!("{field}.text"), "must be a string")),
            Some("image" | "image_url" | "input_image") if takes_images => kept.push(image_part()),
            Some("image" | "image_url" | "input_image") => {
                return Err(wrong(&field, "this model does not accept images"));
            }
            Some(other) => {
                return Err(wrong(&format!("{field}.type"), &format!("{other:?} is not supported")));
            }
            None => return Err(wrong(&format!("{field}.type"), "must be \"text\" or \"image_url\"")),
        }
    }
    if takes_images {
        return Ok(Value::Array(kept));
    }
    let texts: Vec<&str> = kept.iter().filter_map(|part| part["text"].as_str()).collect();
    Ok(Value::String(texts.join("\n")))
}

fn image_part() -> Value {
    Value::Object(Map::from_iter([("type".to_owned(), Value::String("image".to_owned()))]))
}

/// Converts the arguments of a call from a JSON string, as in OpenAI's API, to an object, which templates iterate over. A model may
/// have written something else, or its output may have been cut off: such text is kept, as it is or under the key `arguments`.
fn parse_arguments(call: &mut Value, field: &str, takes_text: bool) -> Result<(), TemplateError> {
    let function = match call.get("function") {
        Some(_) => &mut call["function"],
        None => call,
    };
    if !function.get("name").is_some_and(Value::is_string) {
        return Err(wrong(&format!("{field}.function.name"), "must be a string"));
    }
    let object = |text: &str| serde_json::from_str(text).ok().filter(Value::is_object);
    let parsed = match function.get("arguments") {
        None | Some(Value::Null) => Value::Object(Map::new()),
        Some(Value::Object(_)) => return Ok(()),
        Some(Value::String(text)) if matches!(text.trim(), "" | "null") => Value::Object(Map::new()),
        Some(Value::String(text)) => object(text).unwrap_or_else(|| kept(text.clone(), takes_text)),
        Some(other) => kept(other.to_string(), takes_text),
    };
    if let Value::Object(function) = function {
        function.insert("arguments".to_owned(), parsed);
    }
    Ok(())
}

/// Arguments that are not a JSON object.
fn kept(text: String, takes_text: bool) -> Value {
    match takes_text {
        true => Value::String(text),
        false => Value::Object(Map::from_iter([("arguments".to_owned(), Value::String(text))])),
    }
}

/// Marks the end of the last message's text, to find it in the rendered text.
pub(super) fn mark_end(messages: &mut [Value]) -> Result<(), TemplateError> {
    let number = messages.len() - 1;
    let message = &mut messages[number];
    let field = format!("messages[{number}]");
    if message["role"] != "assistant" || message.get("tool_calls").is_some() {
        let reason = "must be text of the assistant to be continued";
        return Err(wrong(&field, reason));
    }
    let text = match &mut message["content"] {
        Value::Array(parts) => parts.iter_mut().rev().find_map(|part| part.get_mut("text")),
        content => Some(content),
    };
    match text {
        Some(Value::String(text)) => {
            text.push(END);
            Ok(())
        }
        _ => Err(wrong(&format!("{field}.content"), "must have text to be continued")),
    }
}

/// Cuts the rendered text at the mark of [`mark_end`].
pub(super) fn cut_at_end(rendered: &mut String, messages: usize) -> Result<(), TemplateError> {
    let end = rendered.rfind(END).ok_or_else(|| {
        let reason =
            "the model's chat template does not write the text of this message, so it cannot be continued";
        wrong(&format!("messages[{}].content", messages.saturating_sub(1)), reason)
    })?;
    rendered.truncate(end);
    Ok(())
}

/// Encloses text that equals a special token of `tokenizer` in markers, in all strings and keys of a template variable. In
/// assistant messages, the tags of reasoning and tool calls are left unmarked, because templates search for them.
pub(super) fn mark(value: &mut Value, tokenizer: &Tokenizer) {
    if let Value::Array(items) = value {
        for item in items {
            let all = item.get("role").is_none_or(|role| role != "assistant");
            mark_inside(item, tokenizer, all);
        }
    } else {
        mark_inside(value, tokenizer, true);
    }
}

fn mark_inside(value: &mut Value, tokenizer: &Tokenizer, all: bool) {
    match value {
        Value::String(text) => {
            if let Some(marked) = marked(text, tokenizer, all) {
                *text = marked;
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| mark_inside(value, tokenizer, all)),
        Value::Object(map) => {
            for value in map.values_mut() {
                mark_inside(value, tokenizer, all);
            }
            if map.keys().any(|key| marked(key, tokenizer, all).is_some()) {
                *map = std::mem::take(map)
                    .into_iter()
                    .map(|(key, value)| (marked(&key, tokenizer, all).unwrap_or(key), value))
                    .collect();
            }
        }
        _ => {}
    }
}

/// The text with markers, if it needs any. `all`: also around added tokens that are not special.
fn marked(text: &str, tokenizer: &Tokenizer, all: bool) -> Option<String> {
    let forged = text.contains([OPEN, CLOSE]);
    let clean = if forged { text.replace([OPEN, CLOSE], "") } else { String::new() };
    let text = if forged { clean.as_str() } else { text };
    let mut found = tokenizer.added().look_alikes(text);
    found.retain(|(_, id)| all || tokenizer.is_special(*id));
    if found.is_empty() {
        return forged.then(|| text.to_owned());
    }
    let mut marked = String::with_capacity(text.len() + found.len() * 6);
    let mut from = 0;
    for (range, _) in found {
        marked.push_str(&text[from..range.start]);
        marked.push(OPEN);
        marked.push_str(&text[range.clone()]);
        marked.push(CLOSE);
        from = range.end;
    }
    marked.push_str(&text[from..]);
    Some(marked)
}

fn wrong(field: &str, reason: &str) -> TemplateError {
    TemplateError::Message { field: field.to_owned(), reason: reason.to_owned() }
}
