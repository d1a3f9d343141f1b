//! `tojson` as in transformers' templates: Python's `json.dumps` with `ensure_ascii=False`, without HTML escaping.

use std::fmt::Write as _;

use serde_json::Value;

/// Arguments of `json.dumps`.
pub(super) struct Style {
    pub(super) ensure_ascii: bool,
    /// Indentation per level; `None`: everything on one line.
    pub(super) indent: Option<String>,
    /// Separator of items, and separator of key and value.
    pub(super) separators: (String, String),
    pub(super) sort_keys: bool,
}

impl Default for Style {
    fn default() -> Self {
        let separators = (", ".to_owned(), ": ".to_owned());
        Self { ensure_ascii: false, indent: None, separators, sort_keys: false }
    }
}

/// Writes `value` as `json.dumps(value, …)`.
pub(super) fn dumps(value: &Value, style: &Style) -> String {
    let mut out = String::new();
    write(&mut out, value, style, 0);
    out
}

fn write(out: &mut String, value: &Value, style: &Style, level: usize) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => write_number(out, number),
        Value::String(text) => write_string(out, text, style.ensure_ascii),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                separate(out, style, index, level + 1);
                write(out, item, style, level + 1);
            }
            close(out, style, items.is_empty(), level, ']');
        }
        Value::Object(map) => {
            out.push('{');
            let mut entries: Vec<_> = map.iter().collect();
            if style.sort_keys {
                entries.sort_by(|a, b| a.0.cmp(b.0));
            }
            for (index, (key, value)) in entries.into_iter().enumerate() {
                separate(out, style, index, level + 1);
                write_string(out, key, style.ensure_ascii);
                out.push_str(&style.separators.1);
                write(out, value, style, level + 1);
            }
            close(out, style, map.is_empty(), level, '}');
        }
    }
}

fn separate(out: &mut String, style: &Style, index: usize, level: usize) {
    if index > 0 {
        out.push_str(&style.separators.0);
    }
    new_line(out, style, level);
}

fn close(out: &mut String, style: &Style, empty: bool, level: usize, bracket: char) {
    if !empty {
        new_line(out, style, level);
    }
    out.push(bracket);
}

fn new_line(out: &mut String, style: &Style, level: usize) {
    if let Some(indent) = &style.indent {
        out.push('\n');
        (0..level).for_each(|_| out.push_str(indent));
    }
}

fn write_number(out: &mut String, number: &serde_json::Number) {
    match number.as_f64().filter(|_| number.is_f64()) {
        Some(float) => write_float(out, float),
        None => {
            let _ = write!(out, "{number}");
        }
    }
}

/// Floats as Python's `repr`: shortest digits, an exponent of at least two digits below 1e-4 and from 1e16.
pub(super) fn write_float(out: &mut String, float: f64) {
    if !float.is_finite() {
        out.push_str(if float.is_nan() {
            "nan"
        } else if float > 0.0 {
            "inf"
        } else {
            "-inf"
        });
        return;
    }
    let magnitude = float.abs();
    if float == 0.0 || (1e-4..1e16).contains(&magnitude) {
        let _ = write!(out, "{float:?}");
        return;
    }
    let text = format!("{float:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
    let _ = write!(out, "{digits}e{sign}{exponent:0>2}");
}

fn write_string(out: &mut String, text: &str, ensure_ascii: bool) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..='\u{1f}' => write_escape(out, character),
            '\u{7f}'.. if ensure_ascii && character != '\u{7f}' => write_escape(out, character),
            other => out.push(other),
        }
    }
    out.push('"');
}

fn write_escape(out: &mut String, character: char) {
    for unit in character.encode_utf16(&mut [0; 2]) {
        let _ = write!(out, "\\u{unit:04x}");
    }
}
