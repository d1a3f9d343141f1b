//! `qwen3`: dense Qwen3.

use super::parts::{Attention, Frame, GroupedConfig};
use super::{ConfigError, DecoderConfig, Family, Fields, RopeConfig, RopeLayout};

pub(super) fn parse(fields: Fields<'_>) -> Result<DecoderConfig, ConfigError> {
    let frame = Frame::parse(fields)?;
    full_attention(fields)?;
    let grouped = attention(fields, &frame, Some(128))?;
    let rope = RopeConfig::parse(fields, grouped.head_dim, 1e4, 1.0, RopeLayout::Halves)?;
    let layers = frame.dense_layers(fields, false)?;
    Ok(frame.config(Family::Qwen3, Attention::Grouped(grouped), rope, layers))
}

/// The attention of all Qwen3 models: each query and key head is normalised.
pub(super) fn attention(
    fields: Fields<'_>,
    frame: &Frame,
    default_head_dim: Option<i64>,
) -> Result<GroupedConfig, ConfigError> {
    let grouped = GroupedConfig::parse(fields, frame.hidden, default_head_dim)?;
    Ok(GroupedConfig { qk_norm: Some(frame.norm_eps), ..grouped })
}

/// Rejects layers with sliding-window attention.
fn full_attention(fields: Fields<'_>) -> Result<(), ConfigError> {
    let list = fields.get("layer_types").and_then(|list| list.as_array()).map_or(&[][..], Vec::as_slice);
    match list.iter().find(|kind| kind.as_str() != Some("full_attention")) {
        Some(kind) => {
            Err(fields.refuse("layer_types", format!("has {kind}, only \"full_attention\" is supported")))
        }
        None => Ok(()),
    }
}
