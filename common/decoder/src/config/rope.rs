//! Rotary positions (Su et al. 2021) and the ways published models stretch them.

use serde_json::Value;

use super::{ConfigError, Fields};

/// Rotary positions of a decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeConfig {
    /// Base of the frequencies.
    pub theta: f64,
    /// The first so many values of a head are rotated; even.
    pub dim: i64,
    /// Which values are a pair.
    pub layout: RopeLayout,
    /// How frequencies are changed for longer contexts.
    pub scaling: RopeScaling,
    /// Frequencies that follow time, height and width of a picture's tokens, interleaved (Qwen3-VL): how many each.
    pub sections: Option<[i64; 3]>,
}

/// Which two values are rotated together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeLayout {
    /// `i` and `i + dim / 2`.
    Halves,
    /// `2 i` and `2 i + 1`.
    Pairs,
}

/// How frequencies are changed.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All divided by a factor.
    Linear(f64),
    /// As Llama 3.1 does: low ones divided, high ones kept, those between interpolated.
    Llama3(Llama3Scaling),
}

/// Parameters of [`RopeScaling::Llama3`].
#[derive(Debug, Clone, PartialEq)]
pub struct Llama3Scaling {
    /// Divides low frequencies.
    pub factor: f64,
    /// Wavelengths above `original_context / low` are low frequencies.
    pub low: f64,
    /// Wavelengths below `original_context / high` are high frequencies.
    pub high: f64,
    /// Tokens of the context it was trained with first.
    pub original_context: f64,
}

impl RopeConfig {
    /// Reads `rope_parameters`, or `rope_theta` and `rope_scaling` as older files have them. `head` is the width of what
    /// is rotated; `default_theta` and `default_part` hold where the file says nothing.
    pub(super) fn parse(
        fields: Fields<'_>,
        head: i64,
        default_theta: f64,
        default_part: f64,
        layout: RopeLayout,
    ) -> Result<Self, ConfigError> {
        let nothing = Value::Null;
        let (name, prefix) = match fields.get("rope_parameters") {
            Some(_) => ("rope_parameters", "rope_parameters."),
            None => ("rope_scaling", "rope_scaling."),
        };
        let inner = match fields.get(name) {
            Some(_) => Fields::new(fields.object(name)?, prefix),
            None => Fields::new(&nothing, prefix),
        };
        let theta = match inner.optional_number("rope_theta", 1.0..=1e12)? {
            Some(theta) => theta,
            None => fields.optional_number("rope_theta", 1.0..=1e12)?.unwrap_or(default_theta),
        };
        let part = match inner.optional_number("partial_rotary_factor", 0.0..=1.0)? {
            Some(part) => part,
            None => fields.optional_number("partial_rotary_factor", 0.0..=1.0)?.unwrap_or(default_part),
        };
        let dim = (head as f64 * part) as i64;
        if dim < 2 || dim % 2 != 0 {
            let reason = format!("rotates {dim} of {head} values of a head, an even number is needed");
            return Err(fields.refuse("partial_rotary_factor", reason));
        }
        let sections = sections(inner, dim)?;
        Ok(Self { theta, dim, layout, scaling: scaling(inner, fields)?, sections })
    }
}

fn scaling(inner: Fields<'_>, outer: Fields<'_>) -> Result<RopeScaling, ConfigError> {
    let (name, kind) = match (inner.text("rope_type")?, inner.text("type")?) {
        (Some(kind), _) => ("rope_type", kind),
        (None, Some(kind)) => ("type", kind),
        (None, None) => return Ok(RopeScaling::None),
    };
    let factor = || inner.number("factor", 1.0..=1e6);
    match kind {
        // Older files of models with sections call plain rotation "mrope".
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

/// `mrope_section`, which must cover the frequencies there are.
fn sections(inner: Fields<'_>, dim: i64) -> Result<Option<[i64; 3]>, ConfigError> {
    let Some(list) = inner.sizes("mrope_section", 0..=dim)? else { return Ok(None) };
    let sections: [i64; 3] = list.try_into().map_err(|list: Vec<i64>| {
        inner.refuse("mrope_section", format!("has {} parts, three are needed", list.len()))
    })?;
    let [_, height, width] = sections;
    // Height is taken from frequencies 1, 4, 7 … below 3 · height, width from 2, 5, 8 … below 3 · width.
    if 3 * height > dim / 2 + 2 || 3 * width > dim / 2 + 2 || sections.iter().sum::<i64>() != dim / 2 {
        return Err(inner.refuse(
            "mrope_section",
            format!("is {sections:?}, which does not share out {} frequencies", dim / 2),
        ));
    }
    Ok(Some(sections))
}
