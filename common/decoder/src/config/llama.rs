//! `llama`: Llama 2 and 3, SmolLM2.

use super::parts::{Attention, Frame, GroupedConfig};
use super::{ConfigError, DecoderConfig, Family, Fields, RopeConfig, RopeLayout};

pub(super) fn parse(fields: Fields<'_>) -> Result<DecoderConfig, ConfigError> {
    let frame = Frame::parse(fields)?;
    let grouped = GroupedConfig::parse(fields, frame.hidden, None)?;
    let rope = RopeConfig::parse(fields, grouped.head_dim, 1e4, 1.0, RopeLayout::Halves)?;
    let layers = frame.dense_layers(fields, fields.flag_or("mlp_bias", false)?)?;
    Ok(frame.config(Family::Llama, Attention::Grouped(grouped), rope, layers))
}
