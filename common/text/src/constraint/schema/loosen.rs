//! Leaves out the parts of a tool's schema that cannot be enforced. llguidance itself leaves out keywords and formats that it does
//! not know; here are the values that it refuses.

use std::panic::AssertUnwindSafe;

use llguidance::derivre::RegexBuilder;
use llguidance::panic_utils::catch_unwind;
use llguidance::regex_to_lark;
use serde_json::{Map, Value};

use super::{LISTED, NAMED, SINGLE, each_inner};

const TYPES: [&str; 7] = ["null", "boolean", "number", "integer", "string", "array", "object"];
const COUNTS: [&str; 6] =
    ["minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"];
const NUMBERS: [&str; 5] = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"];

/// Leaves out every keyword of `schema`, and of the schemas in it, whose value cannot be enforced.
pub(super) fn loosen(schema: &mut Map<String, Value>) {
    let root = Value::Object(schema.clone());
    loosen_inside(schema, &root);
}

fn loosen_inside(schema: &mut Map<String, Value>, root: &Value) {
    schema.retain(|key, value| is_enforceable(key, value, root));
    if let Some(Value::Array(names)) = schema.get_mut("required") {
        names.retain(Value::is_string);
    }
    // Properties that a pattern allowed must stay allowed.
    let patterns = schema.get("patternProperties").and_then(Value::as_object);
    if patterns.is_some_and(|patterns| patterns.len() > 1 || !patterns.keys().all(|key| compiles(key))) {
        schema.remove("patternProperties");
        schema.remove("additionalProperties");
    }
    each_inner(schema, |_, inner| match inner {
        Value::Object(inner) => loosen_inside(inner, root),
        Value::Bool(_) => {}
        other => *other = Value::Bool(true),
    });
}

/// Whether the keyword has a value of the right kind.
fn is_enforceable(key: &str, value: &mut Value, root: &Value) -> bool {
    match key {
        "type" => match value {
            Value::Array(types) => {
                types.retain(|kind| kind.as_str().is_some_and(|kind| TYPES.contains(&kind)));
                !types.is_empty()
            }
            kind => kind.as_str().is_some_and(|kind| TYPES.contains(&kind)),
        },
        "enum" => value.as_array().is_some_and(|values| !values.is_empty()),
        "required" => value.is_array(),
        "pattern" => value.as_str().is_some_and(compiles),
        "format" => value.is_string(),
        "$ref" => value.as_str().is_some_and(|reference| {
            reference
                .strip_prefix('#')
                .is_some_and(|pointer| !pointer.starts_with('/') || root.pointer(pointer).is_some())
        }),
        "items" => matches!(value, Value::Object(_) | Value::Bool(_) | Value::Array(_)),
        key if NAMED.contains(&key) => value.is_object(),
        key if LISTED.contains(&key) => value.as_array().is_some_and(|list| !list.is_empty()),
        key if SINGLE.contains(&key) => matches!(value, Value::Object(_) | Value::Bool(_)),
        key if COUNTS.contains(&key) => {
            if value.as_u64().is_none()
                && let Some(number) = value.as_f64().filter(|n| n.fract() == 0.0 && (0.0..1e15).contains(n))
            {
                let number = number as u64;
                *value = number.into();
            }
            value.is_u64()
        }
        // Older drafts have booleans for the exclusive bounds.
        key if NUMBERS.contains(&key) => {
            value.is_number() || (value.is_boolean() && key.starts_with("exclusive"))
        }
        _ => true,
    }
}

/// Whether llguidance compiles the regular expression.
fn compiles(regex: &str) -> bool {
    let regex = regex_to_lark(regex, "dw");
    let compiled = catch_unwind(AssertUnwindSafe(move || RegexBuilder::new().mk_regex_for_serach(&regex)));
    compiled.is_ok()
}
