//! Types of arguments in a tool's schema.

use serde_json::{Value, json};

use super::Tool;

/// How the text of an argument is interpreted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ArgumentKind {
    /// As a string.
    Text,
    /// As JSON, or as a string if it is not valid JSON.
    Json,
    /// The schema does not specify it.
    Undeclared,
}

/// The kind of argument `name`. An argument that may be a string or another type is JSON if it parses.
pub(super) fn kind(tool: Option<&Tool>, name: &str) -> ArgumentKind {
    let Some(schema) = tool.and_then(|tool| property(tool, name)) else { return ArgumentKind::Undeclared };
    match types(&schema, 0).as_slice() {
        [] if schema
            .get("enum")
            .and_then(Value::as_array)
            .is_some_and(|values| values.iter().all(Value::is_string)) =>
        {
            ArgumentKind::Text
        }
        [] => ArgumentKind::Undeclared,
        types if types.iter().all(|kind| kind == "string") => ArgumentKind::Text,
        _ => ArgumentKind::Json,
    }
}

/// The schema of argument `name`, with the definitions that it may refer to.
pub(super) fn property(tool: &Tool, name: &str) -> Option<Value> {
    let mut schema = tool.parameters.get("properties")?.get(name)?.clone();
    if let Some(reference) =
        schema.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix('#'))
    {
        schema = tool.parameters.pointer(reference).cloned().unwrap_or(schema);
    }
    if let Value::Object(schema) = &mut schema {
        for key in ["$defs", "definitions"] {
            if let Some(definitions) = tool.parameters.get(key) {
                schema.entry(key).or_insert_with(|| definitions.clone());
            }
        }
    }
    Some(schema)
}

fn types(schema: &Value, depth: usize) -> Vec<Value> {
    match schema.get("type") {
        Some(Value::Array(types)) => return types.clone(),
        Some(kind) => return vec![kind.clone()],
        None => {}
    }
    let alternatives = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array);
    match alternatives {
        Some(alternatives) if depth < 8 => {
            alternatives.iter().flat_map(|schema| types(schema, depth + 1)).collect()
        }
        // An alternative without a type may be anything.
        _ if depth > 0 => vec![json!(null)],
        _ => Vec::new(),
    }
}
