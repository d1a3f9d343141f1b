//! Reading configuration from variables.

use std::{fmt::Display, str::FromStr};

use videosdgx_api::UnknownChoice;

use crate::ConfigError;

/// The value of an environment variable; `None` when it is not set or is not valid UTF-8.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the settings of every service read the environment here")]
pub fn environment(variable: &str) -> Option<String> {
    std::env::var(variable).ok()
}

/// The variables of an environment, read by type; an error names the variable.
///
/// ```
/// let lookup = |name: &str| (name == "RETRIES").then(|| "3".to_owned());
/// let variables = videosdgx_shell::Variables::new(&lookup);
/// assert_eq!(variables.number("RETRIES", 1, 0..=9)?, 3);
/// assert_eq!(variables.number("LIMIT", 5, 0..=9)?, 5);
/// # Ok::<(), videosdgx_shell::ConfigError>(())
/// ```
pub struct Variables<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> Variables<'a> {
    /// The variables that `lookup` knows; empty ones count as not set.
    pub fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { lookup }
    }

    /// The value without surrounding white space.
    #[must_use]
    pub fn text(&self, variable: &str) -> Option<String> {
        let value = (self.lookup)(variable)?;
        Some(value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// A number in `range`.
    ///
    /// # Errors
    /// [`ConfigError::Variable`].
    pub fn number<T: FromStr + PartialOrd + Display>(
        &self,
        variable: &'static str,
        default: T,
        range: std::ops::RangeInclusive<T>,
    ) -> Result<T, ConfigError> {
        let Some(text) = self.text(variable) else { return Ok(default) };
        text.parse().ok().filter(|value| range.contains(value)).ok_or_else(|| ConfigError::Variable {
            variable,
            reason: format!("a number from {} to {}, not {text:?}", range.start(), range.end()),
        })
    }

    /// A word that `T` parses, in any case; default: `T::default()`.
    ///
    /// # Errors
    /// [`ConfigError::Variable`].
    pub fn choice<T: FromStr<Err = UnknownChoice> + Default>(
        &self,
        variable: &'static str,
    ) -> Result<T, ConfigError> {
        let Some(text) = self.text(variable) else { return Ok(T::default()) };
        text.to_ascii_lowercase()
            .parse()
            .map_err(|error: UnknownChoice| ConfigError::Variable { variable, reason: error.to_string() })
    }
}

impl std::fmt::Debug for Variables<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Variables").finish_non_exhaustive()
    }
}
