//! Whether a tool is called, and which.

use serde_json::Value;

use super::toolset::wrong;
use super::{ToolError, ToolSet};

/// OpenAI's `tool_choice`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolChoice {
    /// No call: what looks like one is text.
    None,
    /// As the model likes.
    Auto,
    /// At least one.
    Required,
    /// This one.
    Named(String),
}

impl ToolChoice {
    /// From `"none" | "auto" | "required" | {type: "function", function: {name}}`; where nothing is said, `auto` with tools and `none` without.
    ///
    /// # Errors
    /// [`ToolError`] for another shape, a name that is not among the tools, or a demand without tools.
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
