//! Python's methods of strings, maps and lists (minijinja's pycompat), within the budget.

use std::sync::Arc;

use minijinja::value::from_args;
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::budget::Budget;

/// Registers the methods. Their results are counted by the rewritten call.
pub(super) fn add(environment: &mut Environment<'_>, budget: &Arc<Budget>) {
    let budget = Arc::clone(budget);
    environment.set_unknown_method_callback(move |state, value, method, args| {
        budget.touched(value)?;
        call(state, &budget, value, method, args)
    });
}

fn call(
    state: &mut State,
    budget: &Budget,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args);
    };
    match method {
        "replace" => {
            let (old, new, count): (&str, &str, Option<i64>) = from_args(args)?;
            replace(budget, text, old, new, count.and_then(|count| usize::try_from(count).ok()))
        }
        "join" => {
            let (items,): (&Value,) = from_args(args)?;
            join(budget, items, text)
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Ok(Value::from(text.strip_prefix(prefix).unwrap_or(text)))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Ok(Value::from(text.strip_suffix(suffix).unwrap_or(text)))
        }
        // Not supported: a width in the format string could request any number of spaces.
        "format" => Err(Error::from(ErrorKind::UnknownMethod)),
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args),
    }
}

/// `text.replace(old, new, count)`; the size of the result is counted first.
pub(super) fn replace(
    budget: &Budget,
    text: &str,
    old: &str,
    new: &str,
    count: Option<usize>,
) -> Result<Value, Error> {
    let found = text.matches(old).count().min(count.unwrap_or(usize::MAX)) as u64;
    budget.reserve(text.len() as u64 + found.saturating_mul(new.len() as u64))?;
    Ok(Value::from(match count {
        Some(count) => text.replacen(old, new, count),
        None => text.replace(old, new),
    }))
}

/// `between.join(items)`.
pub(super) fn join(budget: &Budget, items: &Value, between: &str) -> Result<Value, Error> {
    budget.touched(items)?;
    let items: Vec<Value> = items.try_iter()?.checked().collect::<Result<_, _>>()?;
    let items: Vec<&Value> = items.iter().collect();
    budget.concat(&items, between).map(Value::from)
}
