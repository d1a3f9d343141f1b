//! The environment that transformers gives its templates.

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind};

use super::{MAX_TEMPLATE_BYTES, TemplateError};

/// Checks length and syntax.
pub(super) fn check(source: &str) -> Result<(), TemplateError> {
    if source.len() > MAX_TEMPLATE_BYTES {
        return Err(TemplateError::Invalid(format!(
            "{} bytes are more than {MAX_TEMPLATE_BYTES}",
            source.len()
        )));
    }
    environment()?.template_from_str(source).map_err(|error| TemplateError::Invalid(error.to_string()))?;
    Ok(())
}

/// Runs the template.
pub(super) fn render(source: &str, context: serde_json::Value) -> Result<String, TemplateError> {
    environment()?
        .render_str(source, to_value(context))
        .map_err(|error| TemplateError::Failed(error.to_string()))
}

fn environment() -> Result<Environment<'static>, TemplateError> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.map_err(|error| TemplateError::Invalid(error.to_string()))?);
    environment.set_fuel(Some(2_000_000));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |message: String| -> Result<String, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    Ok(environment)
}

/// JSON as a template sees it; the order of keys is kept.
pub(super) fn to_value(json: serde_json::Value) -> minijinja::Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => minijinja::Value::from(()),
        Json::Bool(flag) => flag.into(),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => integer.into(),
            (None, Some(integer)) => integer.into(),
            (None, None) => number.as_f64().unwrap_or(f64::NAN).into(),
        },
        Json::String(text) => text.into(),
        Json::Array(items) => items.into_iter().map(to_value).collect::<Vec<_>>().into(),
        Json::Object(map) => {
            minijinja::Value::from_pairs(map.into_iter().map(|(key, value)| (key, to_value(value))))
        }
    }
}
