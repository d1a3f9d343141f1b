//! `gemma3` and `gemma3_text`: Gemma 3 (Gemma Team 2025). The text part of the former is in `text_config`; its vision
//! tower is not used.

use serde_json::{Map, Value, json};

use super::parts::{Attention, Frame, GroupedConfig, bounds};
use super::{
    Activation, BlockConfig, ConfigError, DecoderConfig, Family, Fields, RopeConfig, RopeLayout,
    SlidingConfig,
};

/// Every sixth layer attends to the whole sequence, unless the configuration says otherwise.
const PATTERN: i64 = 6;

pub(super) fn parse(fields: Fields<'_>) -> Result<DecoderConfig, ConfigError> {
    let merged = with_defaults(Fields::new(fields.object("text_config")?, "text_config."));
    let config = text(Fields::new(&merged, "text_config."), Family::Gemma3)?;
    let tied_head = fields.flag_or("tie_word_embeddings", config.tied_head)?;
    Ok(DecoderConfig { tied_head, ..config })
}

pub(super) fn parse_text(fields: Fields<'_>) -> Result<DecoderConfig, ConfigError> {
    let merged = with_defaults(fields);
    text(Fields::new(&merged, ""), Family::Gemma3Text)
}

/// The fields, with transformers' defaults for those that are missing: published files leave out many.
fn with_defaults(fields: Fields<'_>) -> Value {
    let mut merged = json!({
        "vocab_size": 262_208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "max_position_embeddings": 131_072,
        "rms_norm_eps": 1e-6, "tie_word_embeddings": true, "query_pre_attn_scalar": 256, "sliding_window": 4096,
        "hidden_activation": "gelu_pytorch_tanh",
    });
    for name in fields.names() {
        merged[name] = fields.get(name).cloned().unwrap_or_default();
    }
    merged
}

fn text(fields: Fields<'_>, family: Family) -> Result<DecoderConfig, ConfigError> {
    let frame = Frame::parse(fields)?;
    match fields.text("hidden_activation")? {
        Some("gelu_pytorch_tanh") => {}
        other => {
            let reason = format!("is {:?}, \"gelu_pytorch_tanh\" is supported", other.unwrap_or_default());
            return Err(fields.refuse("hidden_activation", reason));
        }
    }
    if fields.flag_or("use_bidirectional_attention", false)? {
        return Err(
            fields.refuse("use_bidirectional_attention", "is true, only causal attention is supported")
        );
    }
    if fields.get("attn_logit_softcapping").is_some() {
        return Err(fields.refuse("attn_logit_softcapping", "is given, only null is supported"));
    }
    let scalar = fields.number("query_pre_attn_scalar", 1e-3..=1e9)?;
    let grouped = GroupedConfig {
        qk_norm: Some(frame.norm_eps),
        score_scale: scalar.powf(-0.5),
        ..GroupedConfig::parse(fields, frame.hidden, None)?
    };
    let [rope, sliding_rope] = ropes(fields, grouped.head_dim)?;
    let windows = windows(fields, frame.layers)?;
    let window = fields.size("sliding_window", bounds::CONTEXT)?;
    let sliding = windows.contains(&true).then(|| SlidingConfig {
        window: usize::try_from(window).unwrap_or(usize::MAX),
        rope: sliding_rope,
        layers: windows,
    });
    let block = BlockConfig {
        activation: Activation::GeluTanh,
        output_norms: true,
        centred_norms: true,
        embedding_scale: Some((frame.hidden as f64).sqrt()),
        logit_cap: fields.optional_number("final_logit_softcapping", 1e-3..=1e9)?,
    };
    let layers = frame.dense_layers(fields, false)?;
    let config = frame.config(family, Attention::Grouped(grouped), rope, layers);
    Ok(DecoderConfig { block, sliding, ..config })
}

/// Which layers have a window: from `layer_types`, else all but every `sliding_window_pattern`th.
fn windows(fields: Fields<'_>, layers: i64) -> Result<Vec<bool>, ConfigError> {
    let Some(list) = fields.get("layer_types") else {
        let pattern =
            fields.optional_size("sliding_window_pattern", 1..=*bounds::LAYERS.end())?.unwrap_or(PATTERN);
        return Ok((1..=layers).map(|layer| layer % pattern != 0).collect());
    };
    let kinds = list.as_array().filter(|list| list.len() as i64 == layers).ok_or_else(|| {
        fields.refuse("layer_types", format!("is not a list of {layers} kinds, one a layer"))
    })?;
    let windows = kinds.iter().map(|kind| match kind.as_str() {
        Some("sliding_attention") => Ok(true),
        Some("full_attention") => Ok(false),
        _ => Err(fields.refuse(
            "layer_types",
            format!("has {kind}; \"sliding_attention\" and \"full_attention\" are supported"),
        )),
    });
    windows.collect()
}

/// Rotary positions of layers without and with a window. Older files have `rope_theta`, `rope_scaling` (for the
/// former only) and `rope_local_base_freq`; newer ones `rope_parameters` with an object for each kind of layer.
fn ropes(fields: Fields<'_>, head: i64) -> Result<[RopeConfig; 2], ConfigError> {
    let kinds = ["full_attention", "sliding_attention"];
    let given = fields.get("rope_parameters");
    let by_kind = given.is_some_and(|given| kinds.iter().any(|kind| given.get(kind).is_some()));
    let parameters = |kind: &str| match given {
        Some(given) if by_kind => given.get(kind).cloned(),
        // One object for the layers without a window, as in all other families.
        Some(given) if kind == kinds[0] => Some(given.clone()),
        _ => None,
    };
    let rope = |kind: &str, older: &[(&str, &str)], default_theta: f64| {
        let mut own = Map::new();
        own.extend(parameters(kind).map(|given| ("rope_parameters".to_owned(), given)));
        let older = older.iter().filter_map(|(name, as_name)| Some((*as_name, fields.get(name)?.clone())));
        own.extend(older.map(|(name, value)| (name.to_owned(), value)));
        RopeConfig::parse(Fields::new(&own.into(), ""), head, default_theta, 1.0, RopeLayout::Halves)
    };
    let full = [("rope_scaling", "rope_scaling"), ("rope_theta", "rope_theta")];
    Ok([rope(kinds[0], &full, 1e6)?, rope(kinds[1], &[("rope_local_base_freq", "rope_theta")], 1e4)?])
}
