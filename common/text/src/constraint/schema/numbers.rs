//! Whole numbers that llguidance, which computes with `f64`, cannot enforce exactly.

use serde_json::{Map, Number, Value};

use super::{Enforcement, each_inner};
use crate::constraint::{ConstraintError, invalid};

/// Largest whole number up to which every one is exact in `f64`.
const EXACT: f64 = 9_007_199_254_740_992.0;
/// From this magnitude on, bounds are not distinguished from those of `i64`.
const INTEGERS: f64 = 9_223_372_036_854_775_808.0;
/// The least `f64` above the least `i64`.
const LEAST: i64 = -9_223_372_036_854_774_784;

/// Refuses, or drops for [`Enforcement::Loose`], `enum`, `const` and bounds that would be enforced as another number.
pub(super) fn check(schema: &mut Value, enforcement: Enforcement) -> Result<(), ConstraintError> {
    let Value::Object(schema) = schema else { return Ok(()) };
    clamp(schema);
    for key in ["enum", "const", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"] {
        let Some(number) = schema.get(key).and_then(|value| inexact(key, value)) else { continue };
        if enforcement == Enforcement::Strict {
            let reason = "cannot be enforced exactly; whole numbers up to 9007199254740992 can";
            return Err(invalid(&format!("{key}: {number} {reason}")));
        }
        drop_keyword(schema, key);
    }
    let mut outcome = Ok(());
    each_inner(schema, |_, inner| {
        if outcome.is_ok() {
            outcome = check(inner, enforcement);
        }
    });
    outcome
}

/// llguidance negates the lower bound of integers, which the least `i64` does not allow.
fn clamp(schema: &mut Map<String, Value>) {
    if schema.get("type").is_none_or(|kind| kind != "integer") {
        return;
    }
    for key in ["minimum", "exclusiveMinimum"] {
        if let Some(bound) = schema.get_mut(key)
            && bound.as_f64().is_some_and(|bound| bound <= -INTEGERS)
        {
            *bound = LEAST.into();
        }
    }
}

/// Without `enum` or `const` the kind of value is kept.
fn drop_keyword(schema: &mut Map<String, Value>, key: &str) {
    let dropped = schema.remove(key);
    let values = match &dropped {
        Some(Value::Array(values)) if key == "enum" => values.as_slice(),
        Some(value) if key == "const" => std::slice::from_ref(value),
        _ => return,
    };
    if values.iter().all(Value::is_number) {
        schema.entry("type").or_insert_with(|| "number".into());
    }
}

/// The number in the value of `key` that cannot be enforced exactly.
fn inexact<'a>(key: &str, value: &'a Value) -> Option<&'a Number> {
    match value {
        Value::Number(number) => match key {
            "minimum" | "exclusiveMinimum" => is_inexact_bound(number, -1.0).then_some(number),
            "maximum" | "exclusiveMaximum" => is_inexact_bound(number, 1.0).then_some(number),
            _ => is_inexact(number).then_some(number),
        },
        Value::Array(values) => values.iter().find_map(|value| inexact(key, value)),
        Value::Object(values) => values.values().find_map(|value| inexact(key, value)),
        _ => None,
    }
}

fn is_inexact(number: &Number) -> bool {
    match (number.as_i64(), number.as_f64()) {
        (Some(whole), _) => (whole as f64) as i64 != whole,
        // Larger than `i64`, or read as `f64`, which may have changed it.
        (None, Some(float)) => float.fract() == 0.0 && float.abs() > EXACT,
        (None, None) => true,
    }
}

/// `outward`: 1 for an upper bound, -1 for a lower one. An outward bound beyond `i64` is the same as that of `i64`.
fn is_inexact_bound(number: &Number, outward: f64) -> bool {
    let float = number.as_f64().unwrap_or(f64::NAN);
    if float * outward >= INTEGERS { false } else { is_inexact(number) && float.abs() > EXACT }
}
