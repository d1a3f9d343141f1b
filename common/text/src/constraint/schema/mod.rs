//! JSON schemas as llguidance enforces them: limits, exact numbers, bounded white space, and loosening for tools.

mod loosen;
mod numbers;
mod size;

use serde_json::{Map, Value, json};

pub(super) use self::size::check_size;
use super::{ConstraintError, invalid};

/// Maximum nesting depth of a schema.
const MAX_DEPTH: usize = 64;
/// White space between two tokens of JSON: some blanks, or a line break with an indent. Without an end, a model that prefers blanks
/// would write nothing else.
const WHITE_SPACE: &str = r"[\x20\t]{1,4}|\r?\n[\x20\t]{0,64}";

/// What happens with a part of a schema that cannot be enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enforcement {
    /// It is an error.
    Strict,
    /// It is left out: the output may then violate it.
    Loose,
}

/// The schema for llguidance, with its options. Checks its limits; the depth must have been checked.
///
/// # Errors
/// [`ConstraintError::Invalid`] for a schema that is too large or that [`Enforcement::Strict`] cannot enforce.
pub fn guided_schema(schema: &Value, enforcement: Enforcement) -> Result<Value, ConstraintError> {
    check_depth(schema)?;
    let mut schema = match schema {
        Value::Bool(true) => Map::new(),
        Value::Bool(false) => return Err(invalid("the schema allows no value")),
        Value::Object(schema) => schema.clone(),
        _ => return Err(invalid("a schema is an object or a boolean")),
    };
    if enforcement == Enforcement::Loose {
        loosen::loosen(&mut schema);
    }
    let mut options = match schema.remove("x-guidance") {
        Some(Value::Object(options)) => options,
        _ => Map::new(),
    };
    let mut value = Value::Object(schema);
    numbers::check(&mut value, enforcement)?;
    check_size(&value)?;
    let mut option = |name: &str, value: Value| {
        options.entry(name).or_insert(value);
    };
    if enforcement == Enforcement::Loose {
        option("lenient", json!(true));
        option("coerce_one_of", json!(true));
    }
    if options.get("whitespace_flexible") != Some(&json!(false)) {
        options.entry("whitespace_pattern").or_insert_with(|| json!(WHITE_SPACE));
    }
    value["x-guidance"] = Value::Object(options);
    Ok(value)
}

/// # Errors
/// [`ConstraintError::Invalid`] for a schema that is nested too deeply.
pub(super) fn check_depth(schema: &Value) -> Result<(), ConstraintError> {
    let mut open = vec![(schema, 0)];
    while let Some((value, depth)) = open.pop() {
        if depth > MAX_DEPTH {
            return Err(invalid(&format!("the schema is nested deeper than {MAX_DEPTH}")));
        }
        match value {
            Value::Array(items) => open.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(map) => open.extend(map.values().map(|item| (item, depth + 1))),
            _ => {}
        }
    }
    Ok(())
}

/// Keywords whose value is an object of schemas by name.
const NAMED: [&str; 5] = ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"];
/// Keywords whose value is a list of schemas.
const LISTED: [&str; 4] = ["anyOf", "oneOf", "allOf", "prefixItems"];
/// Keywords whose value is a schema; `items` may also be a list of them.
const SINGLE: [&str; 11] = [
    "items",
    "additionalItems",
    "additionalProperties",
    "unevaluatedItems",
    "unevaluatedProperties",
    "propertyNames",
    "contains",
    "not",
    "if",
    "then",
    "else",
];

/// Calls `visit` for each schema directly inside `schema`.
fn each_inner(schema: &mut Map<String, Value>, mut visit: impl FnMut(&str, &mut Value)) {
    for (key, value) in schema {
        let key = key.as_str();
        match value {
            Value::Object(named) if NAMED.contains(&key) => {
                named.values_mut().for_each(|inner| visit(key, inner));
            }
            Value::Array(list) if LISTED.contains(&key) || key == "items" => {
                list.iter_mut().for_each(|inner| visit(key, inner));
            }
            other if SINGLE.contains(&key) => visit(key, other),
            _ => {}
        }
    }
}
