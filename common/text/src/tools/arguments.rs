//! Converts tool-call arguments between tags to a JSON object, as in OpenAI's API.

use serde_json::Value;

use super::schema::{ArgumentKind, Types};

/// Writes a JSON object of arguments incrementally. After [`finish`](Self::finish), the concatenated output is valid JSON for any input.
#[derive(Debug, Clone, Default)]
pub(super) struct ArgumentWriter {
    started: bool,
    value: Option<Open>,
}

/// The current argument.
#[derive(Debug, Clone)]
enum Open {
    /// A string, which is written incrementally.
    Text,
    /// JSON, which is collected and parsed at its end.
    Json(String),
    /// JSON of these types, or a string, which is decided at its end.
    TextOr(Types, String),
}

impl ArgumentWriter {
    /// Starts argument `name`.
    pub(super) fn open(&mut self, name: &str, kind: ArgumentKind, out: &mut String) {
        self.close(out);
        out.push_str(if self.started { ", " } else { "{" });
        self.started = true;
        out.push_str(&Value::from(name).to_string());
        out.push_str(": ");
        self.value = Some(match kind {
            ArgumentKind::Text => {
                out.push('"');
                Open::Text
            }
            ArgumentKind::TextOr(types) => Open::TextOr(types, String::new()),
            ArgumentKind::Json | ArgumentKind::Undeclared => Open::Json(String::new()),
        });
    }

    /// Appends text to the current argument.
    pub(super) fn push(&mut self, text: &str, out: &mut String) {
        match &mut self.value {
            Some(Open::Text) => {
                let quoted = Value::from(text).to_string();
                out.push_str(&quoted[1..quoted.len() - 1]);
            }
            Some(Open::Json(whole) | Open::TextOr(_, whole)) => whole.push_str(text),
            None => {}
        }
    }

    /// Ends the current argument.
    pub(super) fn close(&mut self, out: &mut String) {
        match self.value.take() {
            Some(Open::Text) => out.push('"'),
            Some(Open::Json(text)) => {
                let parsed =
                    serde_json::from_str::<Value>(text.trim()).ok().or_else(|| python_literal(text.trim()));
                out.push_str(&parsed.unwrap_or_else(|| Value::from(text)).to_string());
            }
            Some(Open::TextOr(types, text)) => {
                let parsed = serde_json::from_str::<Value>(text.trim()).ok();
                let value = parsed.filter(|value| types.allow(value));
                out.push_str(&value.unwrap_or_else(|| Value::from(text)).to_string());
            }
            None => {}
        }
    }

    /// Ends the object, including an incomplete argument.
    pub(super) fn finish(&mut self, out: &mut String) {
        self.close(out);
        out.push_str(if self.started { "}" } else { "{}" });
    }
}

/// Python's literals, which some models write instead of JSON's.
fn python_literal(text: &str) -> Option<Value> {
    match text {
        "True" => Some(Value::Bool(true)),
        "False" => Some(Value::Bool(false)),
        "None" => Some(Value::Null),
        _ => None,
    }
}
