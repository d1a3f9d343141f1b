//! Arguments that a model wrote between tags, as the JSON object that OpenAI's callers expect.

use serde_json::Value;

use super::schema::ArgumentKind;

/// Writes a JSON object of arguments piece by piece; whatever comes, the pieces together are JSON after [`finish`](Self::finish).
#[derive(Debug, Clone, Default)]
pub(super) struct ArgumentWriter {
    started: bool,
    value: Option<Open>,
}

/// The argument that is being written.
#[derive(Debug, Clone)]
enum Open {
    /// Written as it comes.
    Text,
    /// Read when it is whole.
    Whole(String),
}

impl ArgumentWriter {
    /// Begins argument `name`.
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
            ArgumentKind::Json | ArgumentKind::Undeclared => Open::Whole(String::new()),
        });
    }

    /// More of the argument's text.
    pub(super) fn push(&mut self, text: &str, out: &mut String) {
        match &mut self.value {
            Some(Open::Text) => {
                let quoted = Value::from(text).to_string();
                out.push_str(&quoted[1..quoted.len() - 1]);
            }
            Some(Open::Whole(whole)) => whole.push_str(text),
            None => {}
        }
    }

    /// The end of the argument.
    pub(super) fn close(&mut self, out: &mut String) {
        match self.value.take() {
            Some(Open::Text) => out.push('"'),
            Some(Open::Whole(text)) => {
                let parsed =
                    serde_json::from_str::<Value>(text.trim()).ok().or_else(|| spelt_by_python(text.trim()));
                out.push_str(&parsed.unwrap_or_else(|| Value::from(text)).to_string());
            }
            None => {}
        }
    }

    /// The end of the object, of an argument that was cut off too.
    pub(super) fn finish(&mut self, out: &mut String) {
        self.close(out);
        out.push_str(if self.started { "}" } else { "{}" });
    }
}

/// Models that were trained on Python write its words.
fn spelt_by_python(text: &str) -> Option<Value> {
    match text {
        "True" => Some(Value::Bool(true)),
        "False" => Some(Value::Bool(false)),
        "None" => Some(Value::Null),
        _ => None,
    }
}
