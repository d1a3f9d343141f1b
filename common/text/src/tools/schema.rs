//! What a tool's schema says of one argument.

use serde_json::{Value, json};

use super::Tool;

/// How an argument's text is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ArgumentKind {
    /// As it is.
    Text,
    /// JSON; what is not is a text.
    Json,
    /// The schema does not say.
    Undeclared,
}

/// The kind of argument `name`. An argument that may be a text or something else is JSON where it can be.
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

/// The schema of argument `name`, definitions it may refer to included.
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
        // An alternative of which nothing is known may be anything.
        _ if depth > 0 => vec![json!(null)],
        _ => Vec::new(),
    }
}
