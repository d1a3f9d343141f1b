//! The size of a schema once its alternatives are multiplied out, as llguidance does for `allOf` and for keywords beside `anyOf`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{LISTED, NAMED, SINGLE};
use crate::constraint::{ConstraintError, invalid};

/// Maximum number of nodes of the multiplied schema.
const MAX_NODES: u64 = 200_000;

/// Checks the size of the multiplied schema.
///
/// # Errors
/// [`ConstraintError::Invalid`] when it is too large.
pub(in crate::constraint) fn check_size(schema: &Value) -> Result<(), ConstraintError> {
    let mut measure = Measure { root: schema, references: BTreeMap::new(), nodes: 0 };
    measure.of(schema, 0);
    if measure.nodes > MAX_NODES {
        let reason = "its alternatives multiply to more than";
        return Err(invalid(&format!("the constraint is too complex: {reason} {MAX_NODES} nodes")));
    }
    Ok(())
}

/// A schema in normal form.
#[derive(Debug, Clone, Copy)]
struct Shape {
    alternatives: u64,
    nodes: u64,
}

const SIMPLE: Shape = Shape { alternatives: 1, nodes: 1 };

struct Measure<'a> {
    root: &'a Value,
    /// Shapes of referenced schemas; `None` while one is measured.
    references: BTreeMap<&'a str, Option<Shape>>,
    /// Nodes of everything that was multiplied.
    nodes: u64,
}

impl<'a> Measure<'a> {
    fn of(&mut self, schema: &'a Value, depth: usize) -> Shape {
        let Value::Object(schema) = schema else { return SIMPLE };
        // References can nest deeper than the text.
        if depth > 256 || self.nodes > MAX_NODES {
            return SIMPLE;
        }
        let mut shape = self.keywords(schema, depth);
        let alone = schema.keys().all(|key| matches!(key.as_str(), "$ref" | "$defs" | "definitions"));
        for (key, value) in schema {
            match (key.as_str(), value) {
                ("anyOf" | "oneOf", Value::Array(options)) => {
                    let options: Vec<Shape> =
                        options.iter().map(|option| self.of(option, depth + 1)).collect();
                    let union = Shape {
                        alternatives: sum(options.iter().map(|option| option.alternatives)).max(1),
                        nodes: sum(options.iter().map(|option| option.nodes)),
                    };
                    shape = self.both(shape, union);
                }
                ("allOf", Value::Array(parts)) => {
                    for part in parts {
                        let part = self.of(part, depth + 1);
                        shape = self.both(shape, part);
                    }
                }
                ("$ref", Value::String(reference)) => {
                    let target = self.reference(reference, depth);
                    // A reference alone stays one.
                    shape = if alone { SIMPLE } else { self.both(shape, target) };
                }
                _ => {}
            }
        }
        self.nodes = self.nodes.saturating_add(1);
        shape
    }

    /// Everything but alternatives.
    fn keywords(&mut self, schema: &'a Map<String, Value>, depth: usize) -> Shape {
        let mut nodes = 1_u64;
        for (key, value) in schema {
            let key = key.as_str();
            let inner: Vec<&Value> = match value {
                Value::Object(named) if NAMED.contains(&key) => named.values().collect(),
                Value::Array(list) if key == "items" || key == "prefixItems" => list.iter().collect(),
                Value::Array(values) if key == "enum" => {
                    nodes = nodes.saturating_add(values.len() as u64);
                    continue;
                }
                value if SINGLE.contains(&key) && !LISTED.contains(&key) => vec![value],
                _ => continue,
            };
            // Definitions are measured where they are used.
            let definitions = matches!(key, "$defs" | "definitions");
            for inner in inner {
                let shape = self.of(inner, depth + 1);
                nodes = nodes.saturating_add(if definitions { 0 } else { shape.nodes });
            }
        }
        Shape { alternatives: 1, nodes }
    }

    fn reference(&mut self, reference: &'a str, depth: usize) -> Shape {
        if let Some(known) = self.references.get(reference) {
            return known.unwrap_or(SIMPLE);
        }
        let target = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
        let Some(target) = target else { return SIMPLE };
        self.references.insert(reference, None);
        let shape = self.of(target, depth + 1);
        self.references.insert(reference, Some(shape));
        shape
    }

    /// The intersection: each alternative with each.
    fn both(&mut self, left: Shape, right: Shape) -> Shape {
        let nodes = left
            .nodes
            .saturating_mul(right.alternatives)
            .saturating_add(right.nodes.saturating_mul(left.alternatives));
        self.nodes = self.nodes.saturating_add(nodes);
        Shape { alternatives: left.alternatives.saturating_mul(right.alternatives), nodes }
    }
}

fn sum(values: impl Iterator<Item = u64>) -> u64 {
    values.fold(0, u64::saturating_add)
}
