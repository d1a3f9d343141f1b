//! Translates GGUF metadata to the fields of a `config.json`
//! (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>).

use serde_json::{Map, Value, json};
use videosdgx_gguf::Gguf;

use super::{ConfigError, DecoderConfig, Family};

/// Integer settings: the key below the architecture's name, and the field.
const SIZES: &[(&str, &str)] = &[
    ("block_count", "num_hidden_layers"),
    ("context_length", "max_position_embeddings"),
    ("embedding_length", "hidden_size"),
    ("feed_forward_length", "intermediate_size"),
    ("attention.head_count", "num_attention_heads"),
    ("attention.head_count_kv", "num_key_value_heads"),
    ("attention.key_length", "head_dim"),
    ("attention.sliding_window", "sliding_window"),
    ("vocab_size", "vocab_size"),
    ("expert_count", "num_experts"),
    ("expert_used_count", "num_experts_per_tok"),
    ("expert_feed_forward_length", "moe_intermediate_size"),
];

/// Name of the token embedding; its rows give the size of the vocabulary if the metadata does not.
pub(crate) const EMBEDDING: &str = "token_embd.weight";
/// Name of the output layer; absent when it is tied to the embedding.
pub(crate) const HEAD: &str = "output.weight";

/// The configuration of a GGUF file of architecture `llama`, `qwen3`, `qwen3moe` or `gemma3`.
pub(crate) fn from_metadata(file: &Gguf) -> Result<DecoderConfig, ConfigError> {
    let missing = |key: &str| ConfigError::Field { field: key.to_owned(), reason: "is missing".into() };
    let architecture = file.architecture().ok_or_else(|| missing("general.architecture"))?;
    let family = match architecture {
        "llama" => Family::Llama,
        "qwen3" => Family::Qwen3,
        "qwen3moe" => Family::Qwen3Moe,
        "gemma3" => Family::Gemma3Text,
        other => return Err(ConfigError::Architecture(other.chars().take(80).collect())),
    };
    let mut config = Map::new();
    config.insert("model_type".into(), family.model_type().into());
    for (setting, field) in SIZES {
        if let Some(size) = file.u64(&file.model_key(setting)) {
            config.insert((*field).into(), size.into());
        }
    }
    refuse_experts_of_llama(file, family)?;
    if !config.contains_key("vocab_size")
        && let Some(embedding) = file.tensor(EMBEDDING)
    {
        config.insert("vocab_size".into(), embedding.shape.first().copied().unwrap_or(0).into());
    }
    let eps = file.model_key("attention.layer_norm_rms_epsilon");
    config.insert("rms_norm_eps".into(), file.f32(&eps).ok_or_else(|| missing(&eps))?.into());
    config.insert("rope_parameters".into(), rope(file)?);
    config.insert("tie_word_embeddings".into(), file.tensor(HEAD).is_none().into());
    config.insert("norm_topk_prob".into(), true.into());
    if family == Family::Gemma3Text {
        gemma3(file, &mut config);
    }
    let bias = file.tensor("blk.0.attn_q.bias").is_some();
    config.insert("attention_bias".into(), bias.into());
    let mut parsed =
        DecoderConfig::from_json(&Value::Object(config)).map_err(|error| in_metadata(file, error))?;
    if let super::Attention::Grouped(grouped) = &mut parsed.attention {
        grouped.output_bias = file.tensor("blk.0.attn_output.bias").is_some();
    }
    if family == Family::Llama {
        // Rows of q and k are stored in the order for pairs. The products of q and k are the same in every order that
        // both have.
        parsed.rope.layout = super::RopeLayout::Pairs;
    }
    // llama.cpp's conversion adds the 1.
    parsed.block.centred_norms = false;
    rotated(file, &parsed)?;
    Ok(parsed)
}

/// What a GGUF file of Gemma 3 has beside the common keys, and what llama.cpp derives from them.
fn gemma3(file: &Gguf, config: &mut Map<String, Value>) {
    let mut give = |field: &str, value: Option<f32>| {
        config.extend(value.map(|value| (field.to_owned(), Value::from(value))));
    };
    give("rope_local_base_freq", file.f32(&file.model_key("rope.freq_base_swa")));
    give("final_logit_softcapping", file.f32(&file.model_key("final_logit_softcapping")));
    // The metadata does not have the factor of the scores: the largest model, of 62 layers, does not use the width of a
    // head.
    let size = |key: &str| file.u64(&file.model_key(key));
    let scalar = match (size("block_count"), size("embedding_length"), size("attention.head_count")) {
        (Some(62), Some(hidden), Some(heads)) if heads > 0 => Some(hidden / heads),
        _ => size("attention.key_length"),
    };
    config.extend(scalar.map(|scalar| ("query_pre_attn_scalar".to_owned(), scalar.into())));
}

/// Base and scaling of the rotary positions.
fn rope(file: &Gguf) -> Result<Value, ConfigError> {
    let theta = file.f32(&file.model_key("rope.freq_base")).unwrap_or(1e4);
    let mut rope = json!({"rope_type": "default", "rope_theta": theta});
    // As llama.cpp reads them: a factor without a type is linear, and older files call it `rope.scale_linear`.
    let number = |key: &str| file.f32(&file.model_key(key)).filter(|factor| *factor != 0.0);
    let factor = number("rope.scaling.factor").or_else(|| number("rope.scale_linear"));
    let kind = file.str(&file.model_key("rope.scaling.type")).or(factor.map(|_| "linear"));
    if let Some(kind) = kind.filter(|kind| *kind != "none") {
        rope["rope_type"] = kind.into();
        rope["factor"] = factor.into();
    }
    Ok(rope)
}

/// Checks that the file's number of rotated elements is the whole head.
fn rotated(file: &Gguf, config: &DecoderConfig) -> Result<(), ConfigError> {
    let key = file.model_key("rope.dimension_count");
    match file.u64(&key) {
        Some(count) if i64::try_from(count) != Ok(config.rope.dim) => Err(ConfigError::Field {
            field: key,
            reason: format!("is {count}, only rotation of the whole head ({}) is supported", config.rope.dim),
        }),
        _ => Ok(()),
    }
}

fn refuse_experts_of_llama(file: &Gguf, family: Family) -> Result<(), ConfigError> {
    let key = file.model_key("expert_count");
    match file.u64(&key) {
        Some(count) if count > 0 && family == Family::Llama => Err(ConfigError::Field {
            field: key,
            reason: format!("is {count}, llama with experts is not supported"),
        }),
        _ => Ok(()),
    }
}

/// Replaces the field in an error by the metadata key that it was read from.
fn in_metadata(file: &Gguf, error: ConfigError) -> ConfigError {
    match error {
        ConfigError::Field { field, reason } => {
            let key =
                SIZES.iter().find(|(_, name)| *name == field).map(|(setting, _)| file.model_key(setting));
            ConfigError::Field { field: key.unwrap_or(field), reason }
        }
        other => other,
    }
}
