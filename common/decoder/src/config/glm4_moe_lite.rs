//! `glm4_moe_lite`: GLM-4.7-Flash, with latent attention and experts.

use super::parts::{Attention, Frame, LatentConfig, QueryProjection, bounds};
use super::{ConfigError, DecoderConfig, Family, Fields, RopeConfig, RopeLayout, RopeScaling, glm4_moe};

/// Epsilon of the latent norms: transformers' default, not part of the configuration.
const LATENT_NORM_EPS: f64 = 1e-6;

pub(super) fn parse(fields: Fields<'_>) -> Result<DecoderConfig, ConfigError> {
    let frame = Frame::parse(fields)?;
    let latent = LatentConfig {
        heads: fields.size("num_attention_heads", bounds::HEADS)?,
        query: match fields.optional_size("q_lora_rank", bounds::WIDTH)? {
            Some(rank) => QueryProjection::LowRank(rank),
            None => QueryProjection::Direct,
        },
        latent: fields.size("kv_lora_rank", bounds::WIDTH)?,
        nope_dim: fields.size("qk_nope_head_dim", bounds::HEAD)?,
        rope_dim: fields.size("qk_rope_head_dim", bounds::HEAD)?,
        value_dim: fields.size("v_head_dim", bounds::HEAD)?,
        bias: fields.flag_or("attention_bias", false)?,
        latent_norm_eps: fields.optional_number("latent_norm_eps", bounds::EPS)?.unwrap_or(LATENT_NORM_EPS),
    };
    let layout =
        if fields.flag_or("rope_interleave", true)? { RopeLayout::Pairs } else { RopeLayout::Halves };
    let rope = RopeConfig::parse(fields, latent.rope_dim, 1e4, 1.0, layout)?;
    if rope.dim != latent.rope_dim {
        return Err(
            fields.refuse("partial_rotary_factor", "is below 1, latent attention rotates its whole part")
        );
    }
    if rope.scaling != RopeScaling::None {
        return Err(fields
            .refuse("rope_parameters.rope_type", "is not \"default\", which latent attention needs here"));
    }
    let dense = dense_layers(fields, &frame)?;
    let layers = glm4_moe::layers(fields, &frame, |layer| dense.contains(&layer))?;
    let config = frame.config(Family::Glm4MoeLite, Attention::Latent(latent), rope, layers);
    Ok(DecoderConfig { extra_layers: glm4_moe::extra_layers(fields)?, ..config })
}

/// Indices of the layers without experts: from `mlp_layer_types`, else the first `first_k_dense_replace`, else the
/// first.
fn dense_layers(fields: Fields<'_>, frame: &Frame) -> Result<Vec<i64>, ConfigError> {
    let Some(list) = fields.get("mlp_layer_types") else {
        let first = fields.optional_size("first_k_dense_replace", 0..=frame.layers)?.unwrap_or(1);
        return Ok((0..first).collect());
    };
    let kinds = list.as_array().filter(|list| list.len() as i64 == frame.layers).ok_or_else(|| {
        fields.refuse("mlp_layer_types", format!("is not a list of {} kinds, one a layer", frame.layers))
    })?;
    let mut dense = Vec::new();
    for (layer, kind) in (0..).zip(kinds) {
        match kind.as_str() {
            Some("dense") => dense.push(layer),
            Some("sparse") => {}
            _ => {
                return Err(fields
                    .refuse("mlp_layer_types", format!("has {kind}; \"dense\" and \"sparse\" are known")));
            }
        }
    }
    Ok(dense)
}
