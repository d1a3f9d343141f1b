//! Sources of constraints: their limits, their hash, and their form as a grammar.

use llguidance::api::TopLevelGrammar;
use llguidance::regex_to_lark;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::cache::Key;
use super::schema::{self, Enforcement, guided_schema};
use super::{ConstraintError, invalid};
use crate::Constraint;

/// Maximum size of a schema, regular expression or grammar, bytes.
pub(crate) const MAX_SOURCE_BYTES: usize = 256 << 10;

/// Checks the size of the constraint and returns the hash of its kind and source.
pub(super) fn key(constraint: &Constraint) -> Result<Key, ConstraintError> {
    let (kind, written);
    let source = match constraint {
        Constraint::JsonObject => {
            kind = "object";
            ""
        }
        Constraint::JsonSchema(schema) => {
            schema::check_depth(schema)?;
            kind = "schema";
            written = schema.to_string();
            &written
        }
        Constraint::Regex(regex) => {
            kind = "regex";
            regex
        }
        Constraint::Lark(grammar) => {
            kind = "lark";
            grammar
        }
    };
    if source.len() > MAX_SOURCE_BYTES {
        return Err(invalid(&format!("{} bytes exceed the limit of {MAX_SOURCE_BYTES}", source.len())));
    }
    Ok(Sha256::new().chain_update(kind).chain_update([0]).chain_update(source).finalize().into())
}

/// The constraint as a grammar of llguidance.
pub(super) fn grammar(constraint: &Constraint) -> Result<TopLevelGrammar, ConstraintError> {
    Ok(match constraint {
        Constraint::JsonObject => TopLevelGrammar::from_json_schema(any_object()?),
        Constraint::JsonSchema(schema) => {
            TopLevelGrammar::from_json_schema(guided_schema(schema, Enforcement::Strict)?)
        }
        Constraint::Regex(regex) => TopLevelGrammar::from_lark(format!("start: {}", regex_rule(regex))),
        Constraint::Lark(grammar) => {
            for embedded in embedded_schemas(grammar) {
                schema::check_size(&embedded)?;
            }
            TopLevelGrammar::from_lark(grammar.clone())
        }
    })
}

/// The constraint as the right side of a rule in Lark syntax; `None` for a whole grammar.
///
/// # Errors
/// [`ConstraintError::Invalid`] for a schema that cannot be enforced.
pub fn rule_of(constraint: &Constraint) -> Result<Option<String>, ConstraintError> {
    Ok(match constraint {
        Constraint::JsonObject => Some(format!("%json {}", any_object()?)),
        Constraint::JsonSchema(schema) => {
            schema::check_depth(schema)?;
            Some(format!("%json {}", guided_schema(schema, Enforcement::Strict)?))
        }
        Constraint::Regex(regex) => Some(regex_rule(regex)),
        Constraint::Lark(_) => None,
    })
}

/// A regular expression as a terminal in Lark syntax. Slashes may already be escaped.
#[must_use]
pub fn regex_rule(regex: &str) -> String {
    // Two slashes would begin a comment.
    if regex.is_empty() { "/(?:)/".to_owned() } else { format!("/{}/", regex_to_lark(regex, "")) }
}

fn any_object() -> Result<Value, ConstraintError> {
    guided_schema(&serde_json::json!({"type": "object"}), Enforcement::Strict)
}

/// The schemas after `%json` in a grammar; text that only looks like one is harmless here.
fn embedded_schemas(grammar: &str) -> impl Iterator<Item = Value> {
    grammar.split("%json").skip(1).filter_map(|rest| {
        serde_json::Deserializer::from_str(rest).into_iter::<Value>().next().and_then(Result::ok)
    })
}
