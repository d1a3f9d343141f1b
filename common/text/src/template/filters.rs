//! The filters that templates may use; each counts its inputs and its result against the budget.

use std::sync::Arc;

use minijinja::value::{Kwargs, Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters};

use super::budget::{
    BOUNDED, Budget, CONCAT, MULTIPLY, PLAIN, REMAINDER, SLICED, TOUCHED, exceeded, is_namespace,
};
use super::{format, json, methods};

/// Registers the filters.
pub(super) fn add(environment: &mut Environment<'_>, budget: &Arc<Budget>) {
    macro_rules! counted {
        ($($name:literal => $filter:expr),* $(,)?) => {
            $(add_counted(environment, budget, $name, Value::from_function($filter));)*
        };
    }
    counted! {
        "abs" => filters::abs, "attr" => filters::attr, "batch" => filters::batch, "bool" => filters::bool, "capitalize" => filters::capitalize,
        "dictsort" => filters::dictsort, "e" => filters::escape, "escape" => filters::escape,
        "float" => filters::float, "groupby" => filters::groupby, "int" => filters::int, "items" => filters::items, "lines" => filters::lines, "list" => filters::list,
        "lower" => filters::lower, "map" => filters::map, "max" => filters::max, "min" => filters::min,
        "reject" => filters::reject, "rejectattr" => filters::rejectattr, "reverse" => filters::reverse,
        "round" => filters::round, "safe" => filters::safe, "select" => filters::select,
        "selectattr" => filters::selectattr, "slice" => filters::slice, "sort" => filters::sort, "split" => filters::split,
        "striptags" => minijinja_contrib::filters::striptags, "sum" => filters::sum, "title" => filters::title, "trim" => filters::trim,
        "truncate" => truncate, "unique" => filters::unique, "upper" => filters::upper, "wordcount" => |text: &str| text.split_whitespace().count(),
    }
    // These do not traverse the value.
    environment.add_filter("count", filters::length);
    environment.add_filter("length", filters::length);
    environment.add_filter("first", filters::first);
    environment.add_filter("last", filters::last);
    environment.add_filter("d", filters::default);
    environment.add_filter("default", filters::default);
    let own = |function: fn(&Budget, &Value, &Value) -> Result<Value, Error>| {
        let budget = Arc::clone(budget);
        move |value: &Value, other: &Value| function(&budget, value, other)
    };
    environment
        .add_filter(CONCAT, own(|budget, left, right| budget.concat(&[left, right], "").map(Value::from)));
    environment.add_filter(MULTIPLY, own(multiply));
    let kept = Arc::clone(budget);
    environment.add_filter(BOUNDED, move |value: Value| kept.settled(value));
    let kept = Arc::clone(budget);
    environment.add_filter(SLICED, move |value: Value| kept.sliced(value));
    let kept = Arc::clone(budget);
    environment.add_filter(TOUCHED, move |value: Value| kept.touched(&value).map(|()| value));
    environment.add_filter(PLAIN, |value: Value| {
        if is_namespace(&value) { Err(exceeded("a namespace is inside another value")) } else { Ok(value) }
    });
    let kept = Arc::clone(budget);
    environment.add_filter(REMAINDER, move |left: &Value, right: &Value, tuple: bool| {
        format::remainder(&kept, left, right, tuple)
    });
    let kept = Arc::clone(budget);
    environment.add_filter("format", move |text: &str, args: Rest<ValueOrKwargs>| {
        format::printf(&kept, text, &args.into_values())
    });
    let kept = Arc::clone(budget);
    environment.add_filter("center", move |text: &str, width: Option<usize>| {
        methods::aligned(&kept, text, width.unwrap_or(80), ' ', methods::Side::Both)
    });
    let kept = Arc::clone(budget);
    environment.add_filter("string", move |value: &Value| kept.concat(&[value], "").map(Value::from));
    let kept = Arc::clone(budget);
    environment.add_filter("join", move |items: &Value, between: Option<&str>, kwargs: Kwargs| {
        let attribute = kwargs.get::<Option<&str>>("attribute")?;
        let between = between.or(kwargs.get("d")?).unwrap_or_default();
        kwargs.assert_all_used()?;
        methods::join(&kept, items, between, attribute)
    });
    let kept = Arc::clone(budget);
    environment.add_filter("replace", move |text: &str, old: &str, new: &str, count: Option<usize>| {
        methods::replace(&kept, text, old, new, count)
    });
    let kept = Arc::clone(budget);
    environment.add_filter(
        "indent",
        move |text: &str, width: Option<usize>, first: Option<bool>, blank: Option<bool>, kwargs: Kwargs| {
            indent(&kept, text, width, first, blank, &kwargs)
        },
    );
    let kept = Arc::clone(budget);
    environment.add_filter("tojson", move |value: &Value, kwargs: Kwargs| to_json(&kept, value, &kwargs));
}

/// As in Jinja: with the arguments by position or by name.
fn truncate(
    text: &str,
    length: Option<usize>,
    killwords: Option<bool>,
    end: Option<&str>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let length = length.or(kwargs.get("length")?).unwrap_or(255);
    let killwords = killwords.or(kwargs.get("killwords")?).unwrap_or(false);
    let end = end.or(kwargs.get("end")?).unwrap_or("...");
    let leeway = kwargs.get::<Option<usize>>("leeway")?.unwrap_or(5);
    kwargs.assert_all_used()?;
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(text.to_owned());
    }
    let kept: String = text.chars().take(length.saturating_sub(end.chars().count())).collect();
    let kept = if killwords { &kept } else { kept.rsplit_once(' ').map_or(kept.as_str(), |(kept, _)| kept) };
    Ok(format!("{kept}{end}"))
}

fn add_counted(environment: &mut Environment<'_>, budget: &Arc<Budget>, name: &'static str, filter: Value) {
    let budget = Arc::clone(budget);
    environment.add_filter(
        name,
        move |state: &mut State, args: Rest<ValueOrKwargs>| -> Result<Value, Error> {
            let args = args.into_values();
            for arg in &args {
                budget.touched(arg)?;
            }
            budget.settled(filter.call(state, &args)?)
        },
    );
}

/// `left * right`: numbers, or a string repeated.
fn multiply(budget: &Budget, left: &Value, right: &Value) -> Result<Value, Error> {
    let refused = || {
        Error::new(
            ErrorKind::InvalidOperation,
            format!("cannot multiply {} by {}", left.kind(), right.kind()),
        )
    };
    let text = left.as_str().map(|text| (text, right)).or_else(|| right.as_str().map(|text| (text, left)));
    if let Some((text, count)) = text {
        let count = count.as_i64().ok_or_else(refused)?.max(0).unsigned_abs();
        budget.reserve((text.len() as u64).saturating_mul(count))?;
        return usize::try_from(count).map(|count| Value::from(text.repeat(count))).map_err(|_| refused());
    }
    if let (Some(left), Some(right)) = (left.as_i64(), right.as_i64())
        && let Some(product) = left.checked_mul(right)
    {
        return Ok(Value::from(product));
    }
    match (f64::try_from(left.clone()), f64::try_from(right.clone())) {
        (Ok(left), Ok(right)) => Ok(Value::from(left * right)),
        _ => Err(refused()),
    }
}

/// As in Jinja: by default four spaces before each line except the first and blank ones.
fn indent(
    budget: &Budget,
    text: &str,
    width: Option<usize>,
    first: Option<bool>,
    blank: Option<bool>,
    kwargs: &Kwargs,
) -> Result<Value, Error> {
    let width = width.or(kwargs.get("width")?).unwrap_or(4);
    let first = first.or(kwargs.get("first")?).unwrap_or(false);
    let blank = blank.or(kwargs.get("blank")?).unwrap_or(false);
    kwargs.assert_all_used()?;
    let lines = text.matches('\n').count() as u64 + 1;
    budget.reserve(text.len() as u64 + lines.saturating_mul(width as u64))?;
    let space = " ".repeat(width);
    let mut out = String::with_capacity(text.len());
    for (number, line) in text.split('\n').enumerate() {
        if number > 0 {
            out.push('\n');
        }
        if (number > 0 || first) && (blank || !line.is_empty()) {
            out.push_str(&space);
        }
        out.push_str(line);
    }
    Ok(Value::from(out))
}

fn to_json(budget: &Budget, value: &Value, kwargs: &Kwargs) -> Result<Value, Error> {
    budget.made(value)?;
    let indent = match kwargs.get::<Option<Value>>("indent")? {
        Some(indent) if !indent.is_none() => match (indent.as_usize(), indent.as_str()) {
            (Some(width), _) if width <= 16 => Some(" ".repeat(width)),
            (None, Some(text)) if text.len() <= 16 => Some(text.to_owned()),
            _ => return Err(Error::new(ErrorKind::InvalidOperation, "indent must be a number up to 16")),
        },
        _ => None,
    };
    let separators = match kwargs.get::<Option<Vec<String>>>("separators")? {
        Some(pair) if pair.len() == 2 && pair.iter().all(|text| text.len() <= 16) => {
            (pair[0].clone(), pair[1].clone())
        }
        Some(_) => {
            return Err(Error::new(ErrorKind::InvalidOperation, "separators must be two short strings"));
        }
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
    };
    let style = json::Style {
        ensure_ascii: kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        indent,
        separators,
        sort_keys: kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    kwargs.assert_all_used()?;
    let text = Value::from(json::dumps(&from_value(value)?, &style));
    budget.made(&text)?;
    Ok(text)
}

/// Converts a template value to JSON.
fn from_value(value: &Value) -> Result<serde_json::Value, Error> {
    use serde_json::Value as Json;
    let refused =
        || Error::new(ErrorKind::BadSerialization, format!("{} is not JSON serializable", value.kind()));
    Ok(match value.kind() {
        ValueKind::None => Json::Null,
        ValueKind::Bool => Json::Bool(value.is_true()),
        ValueKind::Number if value.is_integer() => match (value.as_i64(), u64::try_from(value.clone())) {
            (Some(number), _) => number.into(),
            (None, Ok(number)) => number.into(),
            (None, Err(_)) => return Err(refused()),
        },
        ValueKind::Number => f64::try_from(value.clone()).map_err(|_| refused())?.into(),
        ValueKind::String => Json::String(value.as_str().unwrap_or_default().to_owned()),
        ValueKind::Seq | ValueKind::Iterable => Json::Array(
            value.try_iter()?.checked().map(|item| from_value(&item?)).collect::<Result<_, Error>>()?,
        ),
        ValueKind::Map => {
            let mut map = serde_json::Map::new();
            for key in value.try_iter()?.checked() {
                let key = key?;
                map.insert(key.to_string(), from_value(&value.get_item(&key)?)?);
            }
            Json::Object(map)
        }
        _ => return Err(refused()),
    })
}
