//! The configuration of a decoder, independent of the file format that it was read from.

mod block;
mod fields;
mod gemma3;
mod gguf;
mod glm4_moe;
mod glm4_moe_lite;
mod llama;
mod parts;
mod qwen3;
mod qwen3_moe;
mod qwen3_vl;
mod rope;

use serde_json::Value;

pub use block::{Activation, BlockConfig, SlidingConfig};
pub(crate) use fields::Fields;
pub(crate) use gguf::from_metadata;
pub use parts::{
    Attention, FeedForward, GroupedConfig, LatentConfig, QueryProjection, Routing, SparseConfig,
};
pub use rope::{Llama3Scaling, RopeConfig, RopeLayout, RopeScaling};

/// The architecture, named by transformers' `model_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// `llama`
    Llama,
    /// `qwen3`
    Qwen3,
    /// `qwen3_moe`
    Qwen3Moe,
    /// `qwen3_vl`
    Qwen3Vl,
    /// `glm4_moe`
    Glm4Moe,
    /// `glm4_moe_lite`
    Glm4MoeLite,
    /// `gemma3`: with a vision tower, which is not loaded
    Gemma3,
    /// `gemma3_text`
    Gemma3Text,
}

impl Family {
    /// All families.
    pub const ALL: [Self; 8] = [
        Self::Llama,
        Self::Qwen3,
        Self::Qwen3Moe,
        Self::Qwen3Vl,
        Self::Glm4Moe,
        Self::Glm4MoeLite,
        Self::Gemma3,
        Self::Gemma3Text,
    ];

    /// The class of transformers that implements the family.
    #[must_use]
    pub fn architecture(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
            Self::Qwen3Moe => "Qwen3MoeForCausalLM",
            Self::Qwen3Vl => "Qwen3VLForConditionalGeneration",
            Self::Glm4Moe => "Glm4MoeForCausalLM",
            Self::Glm4MoeLite => "Glm4MoeLiteForCausalLM",
            Self::Gemma3 => "Gemma3ForConditionalGeneration",
            Self::Gemma3Text => "Gemma3ForCausalLM",
        }
    }

    /// The `model_type` in a `config.json`.
    #[must_use]
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen3 => "qwen3",
            Self::Qwen3Moe => "qwen3_moe",
            Self::Qwen3Vl => "qwen3_vl",
            Self::Glm4Moe => "glm4_moe",
            Self::Glm4MoeLite => "glm4_moe_lite",
            Self::Gemma3 => "gemma3",
            Self::Gemma3Text => "gemma3_text",
        }
    }
}

/// The configuration of a decoder-only transformer: layers of attention and feed-forward with RMS norms, rotary
/// positions.
///
/// ```
/// use serde_json::json;
/// use videosdgx_decoder::{DecoderConfig, Family};
///
/// let config = DecoderConfig::from_json(&json!({
///     "model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
///     "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "rms_norm_eps": 1e-5,
///     "max_position_embeddings": 8192, "rope_theta": 100000, "tie_word_embeddings": true
/// }))?;
/// assert_eq!((config.family, config.layers.len()), (Family::Llama, 30));
/// # Ok::<(), videosdgx_decoder::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderConfig {
    /// The family, which decides the names of the tensors.
    pub family: Family,
    /// Size of the vocabulary: rows of the embedding and of the output layer.
    pub vocab: i64,
    /// Width of the residual stream.
    pub hidden: i64,
    /// Largest number of tokens in a sequence.
    pub max_context: usize,
    /// Epsilon of the norms before attention, feed-forward and output layer.
    pub norm_eps: f64,
    /// Whether the output layer is the embedding.
    pub tied_head: bool,
    /// Attention, the same in each layer.
    pub attention: Attention,
    /// Rotary positions; of the layers without a window, if some have one.
    pub rope: RopeConfig,
    /// The feed-forward part of each layer.
    pub layers: Vec<FeedForward>,
    /// Where the blocks differ from Llama's.
    pub block: BlockConfig,
    /// Layers that attend to the newest tokens only; `None`: there are none.
    pub sliding: Option<SlidingConfig>,
    /// Layers of the file after the decoder's own, for multi-token prediction; not loaded.
    pub extra_layers: usize,
    /// The vision part of the configuration as stored, if the model accepts pictures.
    pub vision: Option<Value>,
}

/// A configuration that is invalid or not supported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A field is missing, invalid or not supported.
    #[error("{field} {reason}")]
    Field {
        /// Name of the field, with the names of the enclosing objects.
        field: String,
        /// What is wrong, and what is supported.
        reason: String,
    },
    /// The architecture is not supported.
    #[error(
        "the architecture {0:?} is not supported; llama, qwen3, qwen3_moe, qwen3_vl, glm4_moe, glm4_moe_lite, gemma3 \
         and gemma3_text are"
    )]
    Architecture(String),
}

impl DecoderConfig {
    /// Parses transformers' `config.json`.
    ///
    /// # Errors
    /// [`ConfigError`] with the name of the field.
    pub fn from_json(config: &Value) -> Result<Self, ConfigError> {
        let fields = Fields::new(config, "");
        let name = fields.text("model_type")?.ok_or_else(|| fields.refuse("model_type", "is missing"))?;
        match Family::ALL.into_iter().find(|family| family.model_type() == name) {
            Some(Family::Llama) => llama::parse(fields),
            Some(Family::Qwen3) => qwen3::parse(fields),
            Some(Family::Qwen3Moe) => qwen3_moe::parse(fields),
            Some(Family::Qwen3Vl) => qwen3_vl::parse(fields),
            Some(Family::Glm4Moe) => glm4_moe::parse(fields),
            Some(Family::Glm4MoeLite) => glm4_moe_lite::parse(fields),
            Some(Family::Gemma3) => gemma3::parse(fields),
            Some(Family::Gemma3Text) => gemma3::parse_text(fields),
            None => Err(ConfigError::Architecture(name.chars().take(80).collect())),
        }
    }

    /// Elements that a token takes in the cache, in each layer.
    #[must_use]
    pub fn cache_width(&self) -> i64 {
        match &self.attention {
            Attention::Grouped(grouped) => 2 * grouped.kv_heads * grouped.head_dim,
            Attention::Latent(latent) => latent.latent + latent.rope_dim,
        }
    }
}

#[cfg(test)]
mod tests;
