//! What a decoder computes, whatever file said so.

mod fields;
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

pub(crate) use fields::Fields;
pub(crate) use gguf::from_metadata;
pub use parts::{Attention, FeedForward, Grouped, Latent, QueryProjection, Routing, Sparse};
pub use rope::{Llama3Scaling, RopeConfig, RopeLayout, RopeScaling};

/// The architecture, by transformers' `model_type`.
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
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Llama, Self::Qwen3, Self::Qwen3Moe, Self::Qwen3Vl, Self::Glm4Moe, Self::Glm4MoeLite];

    /// The class of transformers that computes it.
    #[must_use]
    pub fn architecture(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
            Self::Qwen3Moe => "Qwen3MoeForCausalLM",
            Self::Qwen3Vl => "Qwen3VLForConditionalGeneration",
            Self::Glm4Moe => "Glm4MoeForCausalLM",
            Self::Glm4MoeLite => "Glm4MoeLiteForCausalLM",
        }
    }

    /// The name in a `config.json`.
    #[must_use]
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen3 => "qwen3",
            Self::Qwen3Moe => "qwen3_moe",
            Self::Qwen3Vl => "qwen3_vl",
            Self::Glm4Moe => "glm4_moe",
            Self::Glm4MoeLite => "glm4_moe_lite",
        }
    }
}

/// One decoder-only transformer: pre-norm layers of attention and feed-forward, RMS norms, rotary positions.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderConfig {
    /// Whose names and mapping.
    pub family: Family,
    /// Rows of the embedding and of the head.
    pub vocab: i64,
    /// Width of the residual stream.
    pub hidden: i64,
    /// Most tokens of a sequence.
    pub max_context: usize,
    /// Of the norms before attention, feed-forward and head.
    pub norm_eps: f64,
    /// The head is the embedding.
    pub tied_head: bool,
    /// The same in each layer.
    pub attention: Attention,
    /// Rotary positions.
    pub rope: RopeConfig,
    /// One a layer.
    pub layers: Vec<FeedForward>,
    /// Layers of the file after the decoder's own that predict further tokens; not loaded.
    pub extra_layers: usize,
    /// The part about vision, as stored, when the model takes pictures.
    pub vision: Option<Value>,
}

/// Why a configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value that is missing, cannot be computed or makes no sense.
    #[error("{field} {reason}")]
    Field {
        /// Its name, with the objects around it.
        field: String,
        /// What is wrong and what is supported.
        reason: String,
    },
    /// A model of another kind.
    #[error(
        "the architecture {0:?} is not supported; llama, qwen3, qwen3_moe, qwen3_vl, glm4_moe and glm4_moe_lite are"
    )]
    Architecture(String),
}

impl DecoderConfig {
    /// Reads transformers' `config.json`.
    ///
    /// # Errors
    /// [`ConfigError`] names the field.
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
            None => Err(ConfigError::Architecture(name.chars().take(80).collect())),
        }
    }

    /// Elements of the cache a token and layer.
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
