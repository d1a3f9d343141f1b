//! `glm4_moe`: GLM-4.5 to 4.7.

use super::parts::{Attention, FeedForward, Frame, GroupedConfig, Routing, SparseConfig, bounds};
use super::{ConfigError, DecoderConfig, Family, Fields, RopeConfig, RopeLayout};

pub(super) fn parse(fields: Fields<'_>) -> Result<DecoderConfig, ConfigError> {
    let frame = Frame::parse(fields)?;
    let mut grouped = GroupedConfig::parse(fields, frame.hidden, None)?;
    grouped.output_bias = false;
    grouped.qk_norm = fields.flag_or("use_qk_norm", false)?.then_some(frame.norm_eps);
    let rope = RopeConfig::parse(fields, grouped.head_dim, 1e4, 0.5, RopeLayout::Halves)?;
    let dense = fields.optional_size("first_k_dense_replace", 0..=frame.layers)?.unwrap_or(1);
    let layers = layers(fields, &frame, |layer| layer < dense)?;
    let config = frame.config(Family::Glm4Moe, Attention::Grouped(grouped), rope, layers);
    Ok(DecoderConfig { extra_layers: extra_layers(fields)?, ..config })
}

/// The layers of both GLM families; `is_dense` decides which layers have no experts.
pub(super) fn layers(
    fields: Fields<'_>,
    frame: &Frame,
    is_dense: impl Fn(i64) -> bool,
) -> Result<Vec<FeedForward>, ConfigError> {
    let sparse = sparse(fields)?;
    let intermediate = fields.size("intermediate_size", bounds::WIDTH)?;
    Ok((0..frame.layers)
        .map(|layer| {
            if is_dense(layer) {
                FeedForward::Dense { intermediate, bias: false }
            } else {
                FeedForward::Sparse(sparse.clone())
            }
        })
        .collect())
}

/// Number of layers for multi-token prediction.
pub(super) fn extra_layers(fields: Fields<'_>) -> Result<usize, ConfigError> {
    let count = match fields.optional_size("num_nextn_predict_layers", 0..=16)? {
        Some(count) => count,
        None => fields.optional_size("num_mtp_layers", 0..=16)?.unwrap_or(1),
    };
    Ok(usize::try_from(count).unwrap_or(0))
}

fn sparse(fields: Fields<'_>) -> Result<SparseConfig, ConfigError> {
    match fields.text("scoring_func")? {
        None | Some("sigmoid") => {}
        Some(other) => {
            return Err(fields.refuse("scoring_func", format!("is {other:?}, \"sigmoid\" is supported")));
        }
    }
    let intermediate = fields.size("moe_intermediate_size", bounds::WIDTH)?;
    let shared = fields.optional_size("n_shared_experts", 0..=16)?.unwrap_or(1);
    SparseConfig {
        experts: fields.size_of_any(&["n_routed_experts", "num_local_experts"], bounds::EXPERTS)?,
        top_k: fields.size("num_experts_per_tok", bounds::EXPERTS)?,
        intermediate,
        shared_intermediate: (shared > 0).then_some(shared * intermediate),
        routing: Routing::Sigmoid {
            renormalize: fields.flag_or("norm_topk_prob", true)?,
            groups: fields.optional_size("n_group", bounds::EXPERTS)?.unwrap_or(1),
            top_groups: fields.optional_size("topk_group", bounds::EXPERTS)?.unwrap_or(1),
            scale: fields.optional_number("routed_scaling_factor", 0.0..=1e6)?.unwrap_or(1.0),
        },
    }
    .check(fields)
}
