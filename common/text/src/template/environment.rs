//! The template environment, as in transformers, and the execution of a template.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use minijinja::machinery::{CodeGenerator, eval, make_string_output, parse};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value, functions, tests};

use super::budget::Budget;
use super::{MAX_TEMPLATE_BYTES, TemplateError, filters, methods, rewrite};

/// Maximum number of instructions of a rendering, plus a number per byte of the conversation: some tenths of a second.
const FUEL: u64 = 2_000_000;
const FUEL_PER_BYTE: u64 = 16;
/// Maximum nesting of calls and blocks.
const MAX_RECURSION: usize = 200;
/// Stack size: parser, code generator and interpreter recurse over the template, whose length is bounded. Unused pages take no
/// memory.
const STACK_BYTES: usize = 64 << 20;
/// Prefix of the message of an error raised by the template itself.
const RAISED: &str = "\0raised:";

/// Checks length and syntax, and returns the source to render.
pub(super) fn check(source: &str) -> Result<String, TemplateError> {
    if source.len() > MAX_TEMPLATE_BYTES {
        return Err(TemplateError::invalid(format!(
            "{} bytes exceed the limit of {MAX_TEMPLATE_BYTES}",
            source.len()
        )));
    }
    // As in Jinja: every line break becomes one character, and one at the end is dropped.
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let source = without_generation_marks(source.strip_suffix('\n').unwrap_or(&source));
    on_own_stack(|| compile(&source).map(|_| ()).map_err(TemplateError::invalid))?;
    Ok(source)
}

/// Renders a template that [`check`] has accepted.
pub(super) fn render(source: &str, context: serde_json::Value) -> Result<String, TemplateError> {
    on_own_stack(move || run(source, to_value(context)))
}

fn run(source: &str, context: Value) -> Result<String, TemplateError> {
    let input = size(&context);
    let budget = Arc::new(Budget::new(input));
    let mut environment = environment(&budget);
    environment.set_fuel(Some(FUEL + FUEL_PER_BYTE * input));
    let (instructions, blocks) = compile(source).map_err(TemplateError::invalid)?;
    let mut text = String::new();
    let mut output = make_string_output(&mut text);
    let ended =
        eval(&environment, &instructions, context, &blocks, &mut output, AutoEscape::None).map(|_| ());
    ended.map_err(failure)?;
    Ok(text)
}

type Compiled<'a> = (
    minijinja::machinery::Instructions<'a>,
    std::collections::BTreeMap<&'a str, minijinja::machinery::Instructions<'a>>,
);

fn compile(source: &str) -> Result<Compiled<'_>, Box<dyn std::error::Error + Send + Sync>> {
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
    let tree = parse(source, "chat_template", syntax)?;
    let tree = rewrite::guarded(&tree)?;
    let mut generator = CodeGenerator::new("chat_template", source);
    generator.compile_stmt(&tree);
    Ok(generator.finish())
}

fn environment(budget: &Arc<Budget>) -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_recursion_limit(MAX_RECURSION);
    filters::add(&mut environment, budget);
    methods::add(&mut environment, budget);
    add_tests(&mut environment);
    environment.add_function("range", functions::range);
    environment.add_function("dict", functions::dict);
    environment.add_function("namespace", functions::namespace);
    environment.add_function("raise_exception", |message: &Value| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{message}")))
    });
    environment.add_function("strftime_now", |format: &str| -> Result<String, Error> {
        let wrong = |error: &dyn std::fmt::Display| {
            Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {error}"))
        };
        if format.len() > 256 {
            return Err(wrong(&"the format is too long"));
        }
        jiff::fmt::strtime::format(format, &jiff::Zoned::now()).map_err(|error| wrong(&error))
    });
    let budget = Arc::clone(budget);
    environment.set_formatter(move |output, _, value| {
        let text = budget.concat(&[value], "")?;
        output.write_str(&text).map_err(Error::from)
    });
    environment
}

fn add_tests(environment: &mut Environment<'_>) {
    macro_rules! named {
        ($($name:literal => $test:expr),* $(,)?) => { $(environment.add_test($name, $test);)* };
    }
    named! {
        "!=" => tests::is_ne, "<" => tests::is_lt, "<=" => tests::is_le, "==" => tests::is_eq, ">" => tests::is_gt,
        ">=" => tests::is_ge, "boolean" => tests::is_boolean, "defined" => tests::is_defined,
        "divisibleby" => tests::is_divisibleby, "endingwith" => tests::is_endingwith, "eq" => tests::is_eq,
        "equalto" => tests::is_eq, "even" => tests::is_even, "false" => tests::is_false, "float" => tests::is_float,
        "ge" => tests::is_ge, "gt" => tests::is_gt, "in" => tests::is_in, "integer" => tests::is_integer,
        "le" => tests::is_le, "lower" => tests::is_lower, "lt" => tests::is_lt,
        "mapping" => tests::is_mapping, "ne" => tests::is_ne, "none" => tests::is_none, "number" => tests::is_number,
        "odd" => tests::is_odd, "sameas" => tests::is_sameas, "startingwith" => tests::is_startingwith,
        "string" => tests::is_string, "true" => tests::is_true, "undefined" => tests::is_undefined,
        "upper" => tests::is_upper,
    }
    // As in Jinja: everything with a length and elements, including strings and maps.
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::String)
    });
    environment.add_test("iterable", |value: &Value| {
        use ValueKind::{Iterable, Map, Seq, String, Undefined};
        matches!(value.kind(), Seq | Map | String | Iterable | Undefined)
    });
    environment.add_test("callable", |value: &Value| value.kind() == ValueKind::Plain);
}

fn failure(error: Error) -> TemplateError {
    let mut inner = &error;
    while let Some(source) =
        std::error::Error::source(inner).and_then(|source| source.downcast_ref::<Error>())
    {
        inner = source;
    }
    let detail = inner.detail().unwrap_or_default();
    if let Some(message) = detail.strip_prefix(RAISED) {
        return TemplateError::Raised(message.to_owned());
    }
    if inner.kind() == ErrorKind::OutOfFuel {
        let reason = if detail.is_empty() { "it executes too many instructions" } else { detail };
        return TemplateError::Limit(reason.to_owned());
    }
    TemplateError::failed(error)
}

/// Runs `work` on a thread with a large stack, and converts a panic to an error.
fn on_own_stack<T: Send>(work: impl FnOnce() -> Result<T, TemplateError> + Send) -> Result<T, TemplateError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("chat-template".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || catch_unwind(AssertUnwindSafe(work)));
        let ended = thread.map_err(TemplateError::failed)?.join();
        ended
            .and_then(|result| result)
            .unwrap_or_else(|_| Err(TemplateError::failed("the interpreter panicked")))
    })
}

/// Replaces `{% generation %}`, which marks the assistant's text for training, by a block without effect; keeps its white space
/// control.
fn without_generation_marks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, block) = rest.split_at(start + 2);
        out.push_str(before);
        let body = block.trim_start_matches(['-', '+']);
        let sign = &block[..block.len() - body.len()];
        let word = body.trim_start();
        let (name, instead) = match word.starts_with("endgeneration") {
            true => ("endgeneration", " endif"),
            false => ("generation", " if true"),
        };
        out.push_str(sign);
        rest = body;
        if let Some(after) = word.strip_prefix(name)
            && after.trim_start().trim_start_matches(['-', '+']).starts_with("%}")
        {
            out.push_str(instead);
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// Total length of all strings, plus a constant per value.
fn size(value: &Value) -> u64 {
    if let Some(text) = value.as_str() {
        return text.len() as u64 + 8;
    }
    let Ok(items) = value.try_iter() else { return 8 };
    items
        .checked()
        .filter_map(Result::ok)
        .map(|item| match value.kind() {
            ValueKind::Map => size(&item) + value.get_item(&item).map_or(0, |inner| size(&inner)),
            _ => size(&item),
        })
        .sum::<u64>()
        + 8
}

/// Converts JSON to a template value, preserving the order of keys.
fn to_value(json: serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => Value::from(()),
        Json::Bool(flag) => flag.into(),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => integer.into(),
            (None, Some(integer)) => integer.into(),
            (None, None) => number.as_f64().unwrap_or(f64::NAN).into(),
        },
        Json::String(text) => text.into(),
        Json::Array(items) => items.into_iter().map(to_value).collect::<Vec<_>>().into(),
        Json::Object(map) => Value::from_pairs(map.into_iter().map(|(key, value)| (key, to_value(value)))),
    }
}
