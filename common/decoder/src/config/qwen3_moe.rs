//! `qwen3_moe`: Qwen3 with experts, Qwen3-Coder-30B-A3B.

use super::parts::{Attention, FeedForward, Frame, Routing, SparseConfig, bounds};
use super::{ConfigError, DecoderConfig, Family, Fields, RopeConfig, RopeLayout, qwen3};

pub(super) fn parse(fields: Fields<'_>) -> Result<DecoderConfig, ConfigError> {
    let frame = Frame::parse(fields)?;
    let grouped = qwen3::attention(fields, &frame, None)?;
    let rope = RopeConfig::parse(fields, grouped.head_dim, 1e4, 1.0, RopeLayout::Halves)?;
    let layers = layers(fields, &frame)?;
    Ok(frame.config(Family::Qwen3Moe, Attention::Grouped(grouped), rope, layers))
}

/// Every `decoder_sparse_step`th layer has experts, except those in `mlp_only_layers`.
fn layers(fields: Fields<'_>, frame: &Frame) -> Result<Vec<FeedForward>, ConfigError> {
    let sparse = SparseConfig {
        experts: fields.size_of_any(&["num_experts", "num_local_experts"], bounds::EXPERTS)?,
        top_k: fields.optional_size("num_experts_per_tok", bounds::EXPERTS)?.unwrap_or(8),
        intermediate: fields.size("moe_intermediate_size", bounds::WIDTH)?,
        shared_intermediate: None,
        routing: Routing::Softmax { renormalize: fields.flag_or("norm_topk_prob", false)? },
    }
    .check(fields)?;
    let step = fields.optional_size("decoder_sparse_step", bounds::LAYERS)?.unwrap_or(1);
    let dense = fields.sizes("mlp_only_layers", 0..=frame.layers - 1)?.unwrap_or_default();
    (0..frame.layers)
        .map(|layer| {
            if (layer + 1) % step == 0 && !dense.contains(&layer) {
                return Ok(FeedForward::Sparse(sparse.clone()));
            }
            let intermediate = fields.size("intermediate_size", bounds::WIDTH)?;
            Ok(FeedForward::Dense { intermediate, bias: false })
        })
        .collect()
}
