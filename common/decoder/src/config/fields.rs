//! Reads the fields of a configuration; every value is checked, and errors name the field.

use std::ops::RangeInclusive;

use serde_json::Value;

use super::ConfigError;

/// A JSON object of the configuration, with its path for error messages.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    object: &'a Value,
    prefix: &'a str,
}

impl<'a> Fields<'a> {
    /// `prefix` precedes field names in error messages: empty, or ending in a dot.
    pub(crate) fn new(object: &'a Value, prefix: &'a str) -> Self {
        Self { object, prefix }
    }

    /// The value of `name`; `None` when absent or null.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// Names of the fields that are not null.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'a str> {
        let fields = self.object.as_object().into_iter().flatten();
        fields.filter(|(_, value)| !value.is_null()).map(|(name, _)| name.as_str())
    }

    /// The error that field `name` is invalid because of `reason`.
    pub(crate) fn refuse(&self, name: &str, reason: impl std::fmt::Display) -> ConfigError {
        ConfigError::Field { field: format!("{}{name}", self.prefix), reason: reason.to_string() }
    }

    /// An integer within `bounds`.
    pub(crate) fn size(&self, name: &str, bounds: RangeInclusive<i64>) -> Result<i64, ConfigError> {
        self.optional_size(name, bounds)?.ok_or_else(|| self.refuse(name, "is missing"))
    }

    /// An integer within `bounds`; `None` when absent.
    pub(crate) fn optional_size(
        &self,
        name: &str,
        bounds: RangeInclusive<i64>,
    ) -> Result<Option<i64>, ConfigError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = value.as_i64().filter(|number| bounds.contains(number)).ok_or_else(|| {
            let (low, high) = (bounds.start(), bounds.end());
            self.refuse(name, format!("is {}, an integer from {low} to {high} is supported", shown(value)))
        })?;
        Ok(Some(number))
    }

    /// The first of `names` that exists, as [`Fields::size`].
    pub(crate) fn size_of_any(
        &self,
        names: &[&str],
        bounds: RangeInclusive<i64>,
    ) -> Result<i64, ConfigError> {
        for name in names {
            if let Some(size) = self.optional_size(name, bounds.clone())? {
                return Ok(size);
            }
        }
        Err(self.refuse(names.first().copied().unwrap_or_default(), "is missing"))
    }

    /// A finite number within `bounds`.
    pub(crate) fn number(&self, name: &str, bounds: RangeInclusive<f64>) -> Result<f64, ConfigError> {
        self.optional_number(name, bounds)?.ok_or_else(|| self.refuse(name, "is missing"))
    }

    /// A finite number within `bounds`; `None` when absent.
    pub(crate) fn optional_number(
        &self,
        name: &str,
        bounds: RangeInclusive<f64>,
    ) -> Result<Option<f64>, ConfigError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = value.as_f64().filter(|number| bounds.contains(number)).ok_or_else(|| {
            let (low, high) = (bounds.start(), bounds.end());
            self.refuse(name, format!("is {}, a number from {low} to {high} is supported", shown(value)))
        })?;
        Ok(Some(number))
    }

    /// A boolean; `default` when absent.
    pub(crate) fn flag_or(&self, name: &str, default: bool) -> Result<bool, ConfigError> {
        match self.get(name) {
            None => Ok(default),
            Some(value) => value
                .as_bool()
                .ok_or_else(|| self.refuse(name, format!("is {}, not true or false", shown(value)))),
        }
    }

    /// A string; `None` when absent.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&'a str>, ConfigError> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => value
                .as_str()
                .map(Some)
                .ok_or_else(|| self.refuse(name, format!("is {}, not a string", shown(value)))),
        }
    }

    /// A list of integers, each within `bounds`; `None` when absent.
    pub(crate) fn sizes(
        &self,
        name: &str,
        bounds: RangeInclusive<i64>,
    ) -> Result<Option<Vec<i64>>, ConfigError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let list = value.as_array().and_then(|list| {
            list.iter()
                .map(|item| item.as_i64().filter(|item| bounds.contains(item)))
                .collect::<Option<Vec<_>>>()
        });
        list.map(Some).ok_or_else(|| {
            let (low, high) = (bounds.start(), bounds.end());
            self.refuse(name, format!("is not a list of integers from {low} to {high}"))
        })
    }

    /// The object `name`.
    pub(crate) fn object(&self, name: &str) -> Result<&'a Value, ConfigError> {
        match self.get(name) {
            Some(value) if value.is_object() => Ok(value),
            Some(_) => Err(self.refuse(name, "is not an object")),
            None => Err(self.refuse(name, "is missing")),
        }
    }
}

/// A short form of a value for error messages.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
        other => {
            let text = other.to_string();
            if text.chars().count() > 40 {
                format!("{}…", text.chars().take(40).collect::<String>())
            } else {
                text
            }
        }
    }
}
