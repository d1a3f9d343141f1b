//! Types of arguments in a tool's schema.

use std::ops::{BitAnd, BitOr};

use serde_json::Value;

use super::Tool;

/// Maximum number of references and combinations that are followed.
const MAX_DEPTH: usize = 16;

/// A set of JSON types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Types(u8);

impl Types {
    const NONE: Self = Self(0);
    const NULL: Self = Self(1);
    const BOOLEAN: Self = Self(2);
    const INTEGER: Self = Self(4);
    const FRACTION: Self = Self(8);
    const STRING: Self = Self(16);
    const ARRAY: Self = Self(32);
    const OBJECT: Self = Self(64);
    const ANY: Self = Self(127);

    fn named(name: &str) -> Self {
        match name {
            "null" => Self::NULL,
            "boolean" => Self::BOOLEAN,
            "integer" => Self::INTEGER,
            "number" => Self::INTEGER | Self::FRACTION,
            "string" => Self::STRING,
            "array" => Self::ARRAY,
            "object" => Self::OBJECT,
            _ => Self::NONE,
        }
    }

    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::NULL,
            Value::Bool(_) => Self::BOOLEAN,
            Value::Number(number) if number.as_f64().is_some_and(|number| number.fract() == 0.0) => {
                Self::INTEGER
            }
            Value::Number(_) => Self::FRACTION,
            Value::String(_) => Self::STRING,
            Value::Array(_) => Self::ARRAY,
            Value::Object(_) => Self::OBJECT,
        }
    }

    /// Whether a value of this type is allowed.
    pub(super) fn allow(self, value: &Value) -> bool {
        self & Self::of(value) != Self::NONE
    }
}

impl BitOr for Types {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Types {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// How the text of an argument is interpreted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ArgumentKind {
    /// As a string.
    Text,
    /// As JSON of one of the types, otherwise as a string, which is allowed too.
    TextOr(Types),
    /// As JSON, or as a string if it is not valid JSON.
    Json,
    /// The schema does not specify it.
    Undeclared,
}

/// The kind of argument `name`.
pub(super) fn kind(tool: Option<&Tool>, name: &str) -> ArgumentKind {
    let Some(tool) = tool else { return ArgumentKind::Undeclared };
    let Some(schema) = tool.parameters.get("properties").and_then(|properties| properties.get(name)) else {
        return ArgumentKind::Undeclared;
    };
    match types(schema, &tool.parameters, 0) {
        Types::ANY | Types::NONE => ArgumentKind::Undeclared,
        Types::STRING => ArgumentKind::Text,
        types if types & Types::STRING == Types::STRING => {
            ArgumentKind::TextOr(Types(types.0 & !Types::STRING.0))
        }
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

/// The types that `schema` allows; every keyword restricts them further.
fn types(schema: &Value, root: &Value, depth: usize) -> Types {
    let Value::Object(schema) = schema else { return Types::ANY };
    if depth > MAX_DEPTH {
        return Types::ANY;
    }
    let inner = |schema: &Value| types(schema, root, depth + 1);
    let mut allowed = Types::ANY;
    for (key, value) in schema {
        let restricted = match (key.as_str(), value) {
            ("type", Value::String(name)) => Types::named(name),
            ("type", Value::Array(names)) => {
                union(names.iter().map(|name| Types::named(name.as_str().unwrap_or_default())))
            }
            ("const", value) => Types::of(value),
            ("enum", Value::Array(values)) => union(values.iter().map(Types::of)),
            ("anyOf" | "oneOf", Value::Array(options)) => union(options.iter().map(inner)),
            ("allOf", Value::Array(parts)) => parts.iter().map(inner).fold(Types::ANY, BitAnd::bitand),
            ("$ref", Value::String(reference)) => {
                let target = reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
                target.map_or(Types::ANY, inner)
            }
            _ => continue,
        };
        allowed = allowed & restricted;
    }
    // `nullable` is an addition of OpenAPI.
    if schema.get("nullable") == Some(&Value::Bool(true)) { allowed | Types::NULL } else { allowed }
}

fn union(types: impl Iterator<Item = Types>) -> Types {
    types.fold(Types::NONE, BitOr::bitor)
}
