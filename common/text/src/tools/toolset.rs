//! The tools of a request.

use serde_json::{Map, Value};

/// Maximum number of tools of a request, as in OpenAI's API.
const MAX_TOOLS: usize = 128;
/// Maximum length of a name, as in OpenAI's API.
const MAX_NAME: usize = 64;

/// An invalid field of a request's tools.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct ToolError {
    /// Path of the field, for example `tools[1].function.name`.
    pub field: String,
    /// What is wrong with the field.
    pub reason: String,
}

/// A function that the model may call.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Name: 1 to 64 letters, digits, `_` and `-`.
    pub name: String,
    /// JSON schema of the arguments, which are an object.
    pub parameters: Value,
    /// Whether arguments must match the whole schema; otherwise parts that cannot be enforced are left out.
    pub strict: bool,
}

/// The validated tools of a request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ToolSet {
    tools: Vec<Tool>,
}

impl ToolSet {
    /// Parses OpenAI's `tools`: `[{type: "function", function: {name, description?, parameters?, strict?}}]`.
    ///
    /// # Errors
    /// [`ToolError`] with the invalid field.
    pub fn parse(tools: &[Value]) -> Result<Self, ToolError> {
        if tools.len() > MAX_TOOLS {
            return Err(wrong("tools", format!("has {} entries, more than {MAX_TOOLS}", tools.len())));
        }
        let mut parsed: Vec<Tool> = Vec::with_capacity(tools.len());
        for (number, tool) in tools.iter().enumerate() {
            let field = format!("tools[{number}]");
            if tool.get("type").and_then(Value::as_str) != Some("function") {
                return Err(wrong(&format!("{field}.type"), "must be \"function\""));
            }
            let Some(function) = tool.get("function").and_then(Value::as_object) else {
                return Err(wrong(&format!("{field}.function"), "must be an object"));
            };
            let tool = parse_function(function, &format!("{field}.function"))?;
            if parsed.iter().any(|other| other.name == tool.name) {
                return Err(wrong(
                    &format!("{field}.function.name"),
                    format!("{:?} is defined twice", tool.name),
                ));
            }
            parsed.push(tool);
        }
        Ok(Self { tools: parsed })
    }

    /// The tools, in the request's order.
    #[must_use]
    pub fn tools(&self) -> &[Tool] {
        &self.tools
    }

    /// The tool with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Tool> {
        self.tools.iter().find(|tool| tool.name == name)
    }

    /// The tools with only the names of their arguments instead of their schemas, except strict ones; `None` when all are strict.
    #[must_use]
    pub fn without_schemas(&self) -> Option<Self> {
        if self.tools.iter().all(|tool| tool.strict) {
            return None;
        }
        let tools = self.tools.iter().map(|tool| match tool.strict {
            true => tool.clone(),
            false => Tool { parameters: names_only(&tool.parameters), ..tool.clone() },
        });
        Some(Self { tools: tools.collect() })
    }

    /// Whether there are no tools.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tools.is_empty()
    }
}

fn parse_function(function: &Map<String, Value>, field: &str) -> Result<Tool, ToolError> {
    let name = function.get("name").and_then(Value::as_str).unwrap_or_default();
    if !is_name(name) {
        let reason = format!("must be 1 to {MAX_NAME} letters, digits, underscores or hyphens");
        return Err(wrong(&format!("{field}.name"), reason));
    }
    if function
        .get("description")
        .is_some_and(|description| !description.is_string() && !description.is_null())
    {
        return Err(wrong(&format!("{field}.description"), "must be a string"));
    }
    let parameters = match function.get("parameters") {
        None | Some(Value::Null) => serde_json::json!({"type": "object", "properties": {}}),
        Some(Value::Object(schema)) => Value::Object(schema.clone()),
        Some(_) => return Err(wrong(&format!("{field}.parameters"), "must be a JSON schema")),
    };
    if parameters.get("type").is_some_and(|kind| kind != "object") {
        return Err(wrong(&format!("{field}.parameters.type"), "must be \"object\""));
    }
    let properties = parameters.get("properties");
    if properties.is_some_and(|properties| !properties.is_object() && !properties.is_null()) {
        return Err(wrong(&format!("{field}.parameters.properties"), "must be an object"));
    }
    let strict = function.get("strict").and_then(Value::as_bool).unwrap_or(false);
    Ok(Tool { name: name.to_owned(), parameters, strict })
}

/// A schema that allows any value for each argument.
fn names_only(parameters: &Value) -> Value {
    let names = parameters.get("properties").and_then(Value::as_object);
    let properties: Map<String, Value> =
        names.into_iter().flatten().map(|(name, _)| (name.clone(), Value::Bool(true))).collect();
    serde_json::json!({"type": "object", "properties": properties})
}

/// Whether `name` is a valid function name.
pub(super) fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

pub(super) fn wrong(field: &str, reason: impl Into<String>) -> ToolError {
    ToolError { field: field.to_owned(), reason: reason.into() }
}
