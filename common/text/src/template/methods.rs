//! Python's methods of strings, maps and lists (minijinja's pycompat), within the budget.

use std::sync::Arc;

use minijinja::value::{ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::budget::Budget;
use super::format;

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
        if method == "index" && value.kind() == ValueKind::Seq {
            let (wanted,): (&Value,) = from_args(args)?;
            let position = value.try_iter()?.position(|item| item == *wanted);
            return position.map(Value::from).ok_or_else(|| not_found(method));
        }
        return minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args);
    };
    match method {
        "replace" => {
            let (old, new, count): (&str, &str, Option<i64>) = from_args(args)?;
            replace(budget, text, old, new, count.and_then(|count| usize::try_from(count).ok()))
        }
        "join" => {
            let (items,): (&Value,) = from_args(args)?;
            join(budget, items, text, None)
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Ok(Value::from(text.strip_prefix(prefix).unwrap_or(text)))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Ok(Value::from(text.strip_suffix(suffix).unwrap_or(text)))
        }
        "format" => format::str_format(budget, text, args),
        "rsplit" => {
            let (separator, count): (Option<&str>, Option<i64>) = from_args(args)?;
            Ok(Value::from(rsplit(text, separator, count.and_then(|count| usize::try_from(count).ok()))))
        }
        "index" | "rindex" => {
            let (wanted,): (&str,) = from_args(args)?;
            let found = if method == "index" { text.find(wanted) } else { text.rfind(wanted) };
            let found = found.map(|byte| text[..byte].chars().count());
            found.map(Value::from).ok_or_else(|| not_found(method))
        }
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            let first = method == "partition";
            let parts = if first { text.split_once(separator) } else { text.rsplit_once(separator) };
            Ok(Value::from(
                match parts {
                    Some((before, after)) => [before, separator, after],
                    None if first => [text, "", ""],
                    None => ["", "", text],
                }
                .map(str::to_owned)
                .to_vec(),
            ))
        }
        "zfill" => {
            let (width,): (usize,) = from_args(args)?;
            let sign = text.starts_with(['+', '-']);
            let (sign, digits) = text.split_at(usize::from(sign));
            let digits = aligned(budget, digits, width.saturating_sub(sign.len()), '0', Side::Right)?;
            Ok(Value::from(format!("{sign}{digits}")))
        }
        "ljust" | "rjust" | "center" => {
            let (width, fill): (usize, Option<char>) = from_args(args)?;
            let side = match method {
                "ljust" => Side::Left,
                "rjust" => Side::Right,
                _ => Side::Both,
            };
            aligned(budget, text, width, fill.unwrap_or(' '), side)
        }
        "swapcase" => {
            let swap = |character: char| match character.is_uppercase() {
                true => character.to_lowercase().to_string(),
                false => character.to_uppercase().to_string(),
            };
            Ok(Value::from(text.chars().map(swap).collect::<String>()))
        }
        "casefold" => Ok(Value::from(text.to_lowercase().replace('ß', "ss"))),
        "isdecimal" => Ok(Value::from(!text.is_empty() && text.chars().all(|c| c.is_ascii_digit()))),
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args),
    }
}

fn not_found(method: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("{method}: not found"))
}

/// Where the text is when it is filled up to a width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
    Both,
}

/// The text, filled up to `width` characters.
pub(super) fn aligned(
    budget: &Budget,
    text: &str,
    width: usize,
    fill: char,
    side: Side,
) -> Result<Value, Error> {
    let missing = width.saturating_sub(text.chars().count());
    budget.reserve(text.len() as u64 + (missing as u64).saturating_mul(4))?;
    let left = match side {
        Side::Left => 0,
        Side::Right => missing,
        // As in Python, which puts the odd one to the left if the width is odd.
        Side::Both => missing / 2 + (missing & width & 1),
    };
    let fill = |count: usize| std::iter::repeat_n(fill, count).collect::<String>();
    Ok(Value::from(format!("{}{text}{}", fill(left), fill(missing - left))))
}

/// `text.rsplit(separator, count)`.
fn rsplit(text: &str, separator: Option<&str>, count: Option<usize>) -> Vec<String> {
    let most = count.unwrap_or(usize::MAX);
    let mut parts: Vec<String> = Vec::new();
    let mut rest = text;
    match separator {
        Some(separator) => {
            while parts.len() < most
                && let Some((before, after)) = rest.rsplit_once(separator)
            {
                parts.push(after.to_owned());
                rest = before;
            }
            parts.push(rest.to_owned());
        }
        None => {
            rest = rest.trim();
            while parts.len() < most
                && let Some(at) = rest.rfind(char::is_whitespace)
            {
                let after = rest[at..].trim_start();
                parts.push(after.to_owned());
                rest = rest[..at].trim_end();
            }
            parts.extend((!rest.is_empty()).then(|| rest.to_owned()));
        }
    }
    parts.reverse();
    parts
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

/// `between.join(items)`, of an attribute of each item if one is named.
pub(super) fn join(
    budget: &Budget,
    items: &Value,
    between: &str,
    attribute: Option<&str>,
) -> Result<Value, Error> {
    budget.touched(items)?;
    let items: Vec<Value> = items
        .try_iter()?
        .checked()
        .map(|item| match attribute {
            Some(attribute) => attribute.split('.').try_fold(item?, |item, name| item.get_attr(name)),
            None => item,
        })
        .collect::<Result<_, _>>()?;
    let items: Vec<&Value> = items.iter().collect();
    budget.concat(&items, between).map(Value::from)
}
