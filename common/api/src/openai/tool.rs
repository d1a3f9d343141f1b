//! Tools and tool calls.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use utoipa::ToSchema;

/// A tool that the model may call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Tool {
    /// `function`, the only supported kind.
    #[serde(rename = "type")]
    pub kind: CallKind,
    /// The function.
    pub function: FunctionDefinition,
}

/// Kind of a tool or tool call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallKind {
    /// A function.
    #[default]
    Function,
}

/// A function that the model may call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FunctionDefinition {
    /// Name of the function: at most 64 letters, digits, `_` and `-`.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$")]
    pub name: String,
    /// Description for the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// JSON schema of the arguments; a function without one has no arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub parameters: Option<serde_json::Map<String, serde_json::Value>>,
    /// Whether the arguments are constrained to the schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
}

/// A complete tool call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ToolCall {
    /// Id of the call, repeated in the message with its result.
    #[serde(default)]
    pub id: String,
    /// `function`.
    #[serde(rename = "type", default)]
    pub kind: CallKind,
    /// The function and its arguments.
    pub function: FunctionCall,
}

/// The function and its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FunctionCall {
    /// Name of the function.
    pub name: String,
    /// JSON as text, as the model generated it; it may be invalid. In a request an object or `null` is accepted too.
    #[serde(default, deserialize_with = "text_or_json")]
    pub arguments: String,
}

/// A string, or any JSON, which becomes its text.
fn text_or_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::String(text) => text,
        serde_json::Value::Null => String::new(),
        other => other.to_string(),
    })
}

/// Whether the model calls tools: `none`, `auto`, `required`, one function by name, or a subset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum ToolChoice {
    /// `none`, `auto` or `required`.
    Mode(ToolMode),
    /// `{"type": "function", "function": {"name": "…"}}`.
    Function {
        /// `function`.
        #[serde(rename = "type")]
        kind: CallKind,
        /// The function to call.
        function: FunctionName,
    },
    /// `{"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": […]}}`.
    Allowed {
        /// `allowed_tools`.
        #[serde(rename = "type")]
        #[schema(pattern = "^allowed_tools$")]
        kind: String,
        /// The allowed tools.
        allowed_tools: AllowedTools,
    },
}

/// Whether the model calls a tool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolMode {
    /// It calls none.
    None,
    /// The model decides.
    #[default]
    Auto,
    /// It calls at least one.
    Required,
}

/// A function by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FunctionName {
    /// Name of a function in `tools`.
    pub name: String,
}

/// A subset of the tools.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AllowedTools {
    /// `auto` or `required`.
    pub mode: ToolMode,
    /// The tools of the subset.
    pub tools: Vec<NamedTool>,
}

/// A tool by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NamedTool {
    /// `function`.
    #[serde(rename = "type", default)]
    pub kind: CallKind,
    /// Name of the function.
    pub function: FunctionName,
}

impl<'de> Deserialize<'de> for ToolChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ToolChoiceVisitor)
    }
}

struct ToolChoiceVisitor;

impl<'de> Visitor<'de> for ToolChoiceVisitor {
    type Value = ToolChoice;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "\"none\", \"auto\", \"required\" or {\"type\": \"function\", \"function\": {\"name\": …}}",
        )
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ToolChoice, E> {
        Ok(ToolChoice::Mode(match text {
            "none" => ToolMode::None,
            "auto" => ToolMode::Auto,
            "required" => ToolMode::Required,
            _ => return Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
        }))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ToolChoice, A::Error> {
        #[derive(Deserialize)]
        struct Named {
            #[serde(rename = "type", default = "function")]
            kind: String,
            function: Option<FunctionName>,
            allowed_tools: Option<AllowedTools>,
        }
        fn function() -> String {
            "function".to_owned()
        }
        let named = Named::deserialize(MapAccessDeserializer::new(map))?;
        match (named.kind.as_str(), named.function, named.allowed_tools) {
            ("function", Some(function), _) => {
                Ok(ToolChoice::Function { kind: CallKind::Function, function })
            }
            ("allowed_tools", _, Some(allowed_tools)) => {
                Ok(ToolChoice::Allowed { kind: named.kind, allowed_tools })
            }
            ("function", ..) => Err(serde::de::Error::missing_field("function")),
            ("allowed_tools", ..) => Err(serde::de::Error::missing_field("allowed_tools")),
            (other, ..) => Err(serde::de::Error::unknown_variant(other, &["function", "allowed_tools"])),
        }
    }
}
