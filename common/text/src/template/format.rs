//! Python's two kinds of format strings, within the budget.

use minijinja::formatting::{FormatStyle, format};
use minijinja::{Error, ErrorKind, Value};

use super::budget::{Budget, exceeded};
use super::python;

/// Maximum number of digits of a width or precision.
const MAX_DIGITS: usize = 3;
/// Size that a field can be filled up to, bytes.
const FIELD: u64 = 1_000;

/// `text % values` and `text | format(values…)`.
pub(super) fn printf(budget: &Budget, text: &str, values: &[Value]) -> Result<Value, Error> {
    let mut fields = 0;
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('%') {
        let specification = after.strip_prefix('(').and_then(|named| named.split_once(')'));
        let specification = specification.map_or(after, |(_, after)| after);
        check(specification, |character| "#0- +.*".contains(character) || character.is_ascii_digit())?;
        fields += 1;
        // The letter may be another `%`.
        rest = specification.trim_start_matches(|c: char| "#0- +.".contains(c) || c.is_ascii_digit());
        rest = rest.strip_prefix('%').unwrap_or(rest);
    }
    made(budget, FormatStyle::Printf, text, values, fields)
}

/// `text.format(values…)`.
pub(super) fn str_format(budget: &Budget, text: &str, values: &[Value]) -> Result<Value, Error> {
    let mut fields = 0;
    for part in text.split('{').skip(1) {
        let specification = part.split('}').next().unwrap_or_default();
        check(specification, |_| true)?;
        fields += 1;
    }
    made(budget, FormatStyle::StrFormat, text, values, fields)
}

/// `left % right`: of numbers, or of a format string and its values. `tuple`: `right` is several values.
pub(super) fn remainder(budget: &Budget, left: &Value, right: &Value, tuple: bool) -> Result<Value, Error> {
    if let Some(text) = left.as_str() {
        let values = match tuple {
            true => right.try_iter()?.checked().collect::<Result<Vec<_>, _>>()?,
            false => vec![right.clone()],
        };
        return printf(budget, text, &values);
    }
    let refused = || {
        let kinds = format!("cannot compute the remainder of {} by {}", left.kind(), right.kind());
        Error::new(ErrorKind::InvalidOperation, kinds)
    };
    // The sign is the divisor's, as in Python.
    if let (true, true, Some(a), Some(b)) =
        (left.is_integer(), right.is_integer(), left.as_i64(), right.as_i64())
    {
        let remainder = if b == -1 { Some(0) } else { a.checked_rem(b) }.ok_or_else(refused)?;
        let other_sign = remainder != 0 && (remainder < 0) != (b < 0);
        return Ok(Value::from(if other_sign { remainder + b } else { remainder }));
    }
    match (f64::try_from(left.clone()), f64::try_from(right.clone())) {
        (Ok(a), Ok(b)) if b != 0.0 => Ok(Value::from(a - b * (a / b).floor())),
        _ => Err(refused()),
    }
}

/// Refuses widths that could request any number of blanks.
fn check(specification: &str, part: impl Fn(char) -> bool) -> Result<(), Error> {
    let mut digits = 0;
    for character in specification.chars().take_while(|character| part(*character)) {
        digits = if character.is_ascii_digit() { digits + 1 } else { 0 };
        if digits > MAX_DIGITS || character == '*' {
            return Err(exceeded("a width in a format string is too large"));
        }
    }
    Ok(())
}

fn made(
    budget: &Budget,
    style: FormatStyle,
    text: &str,
    values: &[Value],
    fields: u64,
) -> Result<Value, Error> {
    let mut written = Vec::with_capacity(values.len());
    let mut size = text.len() as u64;
    for value in values {
        budget.made(value)?;
        // Numbers stay what they are, for `%d`, and maps for names.
        let value = if python::differs(value) { Value::from(python::to_str(value)?) } else { value.clone() };
        size = size.saturating_add(fields.saturating_mul(value.as_str().map_or(0, str::len) as u64));
        written.push(value);
    }
    budget.reserve(size.saturating_add(fields.saturating_mul(FIELD)))?;
    let text = Value::from(format(style, text, &written)?);
    budget.made(&text)?;
    Ok(text)
}
