//! Rotary positions (Su et al. 2021) and their scaling for long contexts.

use std::ops::RangeInclusive;

use serde_json::Value;

use super::{ConfigError, Fields};

/// Rotary positions of a decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeConfig {
    /// Base of the frequencies.
    pub theta: f64,
    /// Number of rotated elements at the start of a head; even.
    pub dim: i64,
    /// Which elements are rotated together.
    pub layout: RopeLayout,
    /// Scaling of the frequencies for longer contexts.
    pub scaling: RopeScaling,
    /// Numbers of frequencies that follow time, height and width of a picture's tokens, interleaved (Qwen3-VL).
    pub sections: Option<[i64; 3]>,
}

/// Which two elements are rotated together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeLayout {
    /// `i` and `i + dim / 2`.
    Halves,
    /// `2 i` and `2 i + 1`.
    Pairs,
}

/// Scaling of the frequencies.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// No scaling.
    None,
    /// All frequencies are divided by a factor.
    Linear(f64),
    /// Llama 3.1's: low frequencies are divided, high ones unchanged, those between interpolated.
    Llama3(Llama3Scaling),
}

/// Parameters of [`RopeScaling::Llama3`].
#[derive(Debug, Clone, PartialEq)]
pub struct Llama3Scaling {
    /// Divisor of low frequencies.
    pub factor: f64,
    /// Wavelengths above `original_context / low` are low frequencies.
    pub low: f64,
    /// Wavelengths below `original_context / high` are high frequencies.
    pub high: f64,
    /// Context length, in tokens, of the original training.
    pub original_context: f64,
}

impl RopeConfig {
    /// Parses `rope_scaling` and `rope_theta` (older files), `rope_parameters`, or all of them. `head` is the width that is
    /// rotated; `default_theta` and `default_part` apply where the file has no value.
    pub(super) fn parse(
        fields: Fields<'_>,
        head: i64,
        default_theta: f64,
        default_part: f64,
        layout: RopeLayout,
    ) -> Result<Self, ConfigError> {
        // As transformers 5 decides: where a file has both, the older field was added to override the newer one. What it does
        // not say is taken from the newer one, then from the top level.
        let nothing = Value::Null;
        let is_given = |name: &str| {
            fields.get(name).is_some_and(|value| value.as_object().is_none_or(|it| !it.is_empty()))
        };
        let parameters = match is_given("rope_parameters") {
            true => Fields::new(fields.object("rope_parameters")?, "rope_parameters."),
            false => Fields::new(&nothing, "rope_parameters."),
        };
        let inner = match is_given("rope_scaling") {
            true => Fields::new(fields.object("rope_scaling")?, "rope_scaling."),
            false => parameters,
        };
        let number = |name: &str, bounds: RangeInclusive<f64>| -> Result<Option<f64>, ConfigError> {
            for place in [inner, parameters, fields] {
                if let Some(number) = place.optional_number(name, bounds.clone())? {
                    return Ok(Some(number));
                }
            }
            Ok(None)
        };
        let theta = number("rope_theta", 1.0..=1e12)?.unwrap_or(default_theta);
        let part = number("partial_rotary_factor", 0.0..=1.0)?.unwrap_or(default_part);
        let dim = (head as f64 * part) as i64;
        if dim < 2 || dim % 2 != 0 {
            let reason = format!("rotates {dim} of {head} values of a head, an even number is needed");
            return Err(fields.refuse("partial_rotary_factor", reason));
        }
        let sections = match sections(inner, dim)? {
            Some(sections) => Some(sections),
            None => sections(parameters, dim)?,
        };
        Ok(Self { theta, dim, layout, scaling: scaling(inner, fields)?, sections })
    }
}

fn scaling(inner: Fields<'_>, outer: Fields<'_>) -> Result<RopeScaling, ConfigError> {
    let (name, kind) = match (inner.text("rope_type")?, inner.text("type")?) {
        (Some(kind), _) => ("rope_type", kind),
        (None, Some(kind)) => ("type", kind),
        (None, None) => return without_kind(inner),
    };
    let factor = || inner.number("factor", 1.0..=1e6);
    match kind {
        // Older files of models with sections call unscaled rotation "mrope".
        "default" | "mrope" => Ok(RopeScaling::None),
        "linear" => Ok(RopeScaling::Linear(factor()?)),
        "llama3" => {
            let (low, high) =
                (inner.number("low_freq_factor", 1e-3..=1e6)?, inner.number("high_freq_factor", 1e-3..=1e6)?);
            if high <= low {
                return Err(
                    inner.refuse("high_freq_factor", format!("is {high}, not above low_freq_factor {low}"))
                );
            }
            let original = match inner.optional_number("original_max_position_embeddings", 1.0..=1e9)? {
                Some(original) => original,
                None => outer.number("max_position_embeddings", 1.0..=1e9)?,
            };
            Ok(RopeScaling::Llama3(Llama3Scaling {
                factor: factor()?,
                low,
                high,
                original_context: original,
            }))
        }
        other => {
            Err(inner
                .refuse(name, format!("is {other:?}; \"default\", \"linear\" and \"llama3\" are supported")))
        }
    }
}

/// Parameters that do not name their kind: unscaled, unless there is anything that only scaling has.
fn without_kind(inner: Fields<'_>) -> Result<RopeScaling, ConfigError> {
    const UNSCALED: [&str; 4] = ["rope_theta", "partial_rotary_factor", "mrope_section", "mrope_interleaved"];
    match inner.names().find(|name| !UNSCALED.contains(name)) {
        Some(name) => Err(inner.refuse(name, "is given without rope_type, which says what it means")),
        None => Ok(RopeScaling::None),
    }
}

/// Parses `mrope_section`, which must cover all frequencies.
fn sections(inner: Fields<'_>, dim: i64) -> Result<Option<[i64; 3]>, ConfigError> {
    let Some(list) = inner.sizes("mrope_section", 0..=dim)? else { return Ok(None) };
    let sections: [i64; 3] = list.try_into().map_err(|list: Vec<i64>| {
        inner.refuse("mrope_section", format!("has {} parts, three are needed", list.len()))
    })?;
    let [_, height, width] = sections;
    // Height uses frequencies 1, 4, 7 … below 3 · height, width uses 2, 5, 8 … below 3 · width.
    if 3 * height > dim / 2 + 2 || 3 * width > dim / 2 + 2 || sections.iter().sum::<i64>() != dim / 2 {
        return Err(inner.refuse(
            "mrope_section",
            format!("is {sections:?}, which does not cover {} frequencies", dim / 2),
        ));
    }
    Ok(Some(sections))
}
