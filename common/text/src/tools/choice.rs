//! OpenAI's `tool_choice`.

use serde_json::Value;

use super::toolset::wrong;
use super::{ToolError, ToolSet};

/// Whether the model may or must call a tool, and which: OpenAI's `tool_choice`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolChoice {
    /// No call; text in the form of a call is ordinary text.
    None,
    /// The model decides.
    Auto,
    /// At least one call.
    Required,
    /// A call of the tool with this name.
    Named(String),
}

impl ToolChoice {
    /// Parses `"none" | "auto" | "required" | {type: "function", function: {name}}`. Default: `auto` with tools, `none` without.
    ///
    /// # Errors
    /// [`ToolError`] for another value, an unknown tool, or `required` without tools.
    pub fn parse(choice: Option<&Value>, tools: &ToolSet) -> Result<Self, ToolError> {
        let parsed = match choice {
            None | Some(Value::Null) if tools.is_empty() => Self::None,
            None | Some(Value::Null) => Self::Auto,
            Some(Value::String(word)) => match word.as_str() {
                "none" => Self::None,
                "auto" => Self::Auto,
                "required" => Self::Required,
                _ => {
                    return Err(wrong(
                        "tool_choice",
                        "must be \"none\", \"auto\", \"required\" or a function",
                    ));
                }
            },
            Some(choice) => {
                let name = choice.pointer("/function/name").and_then(Value::as_str);
                match name {
                    Some(name) if choice["type"] == "function" => Self::Named(name.to_owned()),
                    _ => {
                        return Err(wrong(
                            "tool_choice",
                            "must be \"none\", \"auto\", \"required\" or a function",
                        ));
                    }
                }
            }
        };
        match &parsed {
            Self::Named(name) if tools.get(name).is_none() => {
                Err(wrong("tool_choice.function.name", format!("{name:?} is not among the tools")))
            }
            Self::Required if tools.is_empty() => Err(wrong("tool_choice", "requires tools")),
            _ => Ok(parsed),
        }
    }
}
