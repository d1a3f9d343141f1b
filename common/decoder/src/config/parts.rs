//! The parts of a decoder's configuration, and what all families have in common.

use super::{BlockConfig, ConfigError, DecoderConfig, Family, Fields, RopeConfig};

/// Accepted ranges: larger than in every published model, and small enough that sizes cannot overflow.
pub(super) mod bounds {
    use std::ops::RangeInclusive;

    pub(in super::super) const VOCAB: RangeInclusive<i64> = 1..=1 << 20;
    pub(in super::super) const WIDTH: RangeInclusive<i64> = 1..=1 << 17;
    pub(in super::super) const LAYERS: RangeInclusive<i64> = 1..=512;
    pub(in super::super) const HEADS: RangeInclusive<i64> = 1..=512;
    pub(in super::super) const HEAD: RangeInclusive<i64> = 1..=4096;
    pub(in super::super) const EXPERTS: RangeInclusive<i64> = 1..=4096;
    pub(in super::super) const CONTEXT: RangeInclusive<i64> = 1..=1 << 24;
    pub(in super::super) const EPS: RangeInclusive<f64> = 0.0..=0.1;
}

/// The attention of a layer.
#[derive(Debug, Clone, PartialEq)]
pub enum Attention {
    /// Query heads in groups that share keys and values (Ainslie et al. 2023, "GQA").
    Grouped(GroupedConfig),
    /// Keys and values computed from one latent vector (DeepSeek-AI 2024, "DeepSeek-V2").
    Latent(LatentConfig),
}

/// Parameters of grouped-query attention.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupedConfig {
    /// Number of query heads.
    pub heads: i64,
    /// Number of key and value heads; divides `heads`.
    pub kv_heads: i64,
    /// Width of a head; not always `hidden / heads`.
    pub head_dim: i64,
    /// Whether q, k and v have a bias.
    pub qkv_bias: bool,
    /// Whether the output has a bias.
    pub output_bias: bool,
    /// Epsilon of the norm of each query and key head, before the rotation; `None`: no norm.
    pub qk_norm: Option<f64>,
    /// Factor of the products of queries and keys.
    pub score_scale: f64,
}

/// Parameters of multi-head latent attention.
#[derive(Debug, Clone, PartialEq)]
pub struct LatentConfig {
    /// Number of query heads.
    pub heads: i64,
    /// How queries are computed.
    pub query: QueryProjection,
    /// Width of the latent vector that keys and values are computed from.
    pub latent: i64,
    /// Width of the part of a head that is not rotated.
    pub nope_dim: i64,
    /// Width of the rotated part of a head; its key is shared by all heads.
    pub rope_dim: i64,
    /// Width of a head's value.
    pub value_dim: i64,
    /// Whether the input projections and the output have a bias.
    pub bias: bool,
    /// Epsilon of the norms of the latent vector and of the low-rank query.
    pub latent_norm_eps: f64,
}

impl LatentConfig {
    /// Width of a query head: the unrotated and the rotated part.
    #[must_use]
    pub fn query_dim(&self) -> i64 {
        self.nope_dim + self.rope_dim
    }
}

/// How queries are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryProjection {
    /// By one projection.
    Direct,
    /// By a projection to this rank, a norm, and a projection to the full width.
    LowRank(i64),
}

/// The feed-forward part of a layer, `down(activation(gate x) · up x)`.
#[derive(Debug, Clone, PartialEq)]
pub enum FeedForward {
    /// One gated unit.
    Dense {
        /// Intermediate width.
        intermediate: i64,
        /// Whether the linear layers have biases.
        bias: bool,
    },
    /// A mixture of experts.
    Sparse(SparseConfig),
}

/// Parameters of a mixture of experts.
#[derive(Debug, Clone, PartialEq)]
pub struct SparseConfig {
    /// Number of experts.
    pub experts: i64,
    /// Number of experts for each token.
    pub top_k: i64,
    /// Intermediate width of an expert.
    pub intermediate: i64,
    /// Intermediate width of the shared expert, which is added for every token without a gate; `None`: no shared
    /// expert.
    pub shared_intermediate: Option<i64>,
    /// How experts are selected and weighted.
    pub routing: Routing,
}

/// How experts are selected and weighted; computed in f32.
#[derive(Debug, Clone, PartialEq)]
pub enum Routing {
    /// Softmax over all experts; the `top_k` largest are selected.
    Softmax {
        /// Whether the weights of the selected experts are scaled to sum to 1.
        renormalize: bool,
    },
    /// Sigmoid scores. Experts are selected by score plus correction bias within the best groups, and weighted by the
    /// score alone.
    Sigmoid {
        /// Whether the weights are divided by their sum.
        renormalize: bool,
        /// Number of groups of consecutive experts; a group is rated by the sum of its two best experts.
        groups: i64,
        /// Number of groups that experts are selected from.
        top_groups: i64,
        /// Factor of the weights.
        scale: f64,
    },
}

impl GroupedConfig {
    /// Parses number of heads, sharing and width, from the fields that all families with grouped attention have in
    /// common.
    pub(super) fn parse(
        fields: Fields<'_>,
        hidden: i64,
        default_head_dim: Option<i64>,
    ) -> Result<Self, ConfigError> {
        let heads = fields.size("num_attention_heads", bounds::HEADS)?;
        let kv_heads = fields.optional_size("num_key_value_heads", bounds::HEADS)?.unwrap_or(heads);
        if heads % kv_heads != 0 {
            let reason = format!("is {kv_heads}, which does not divide num_attention_heads {heads}");
            return Err(fields.refuse("num_key_value_heads", reason));
        }
        let head_dim = match (fields.optional_size("head_dim", bounds::HEAD)?, default_head_dim) {
            (Some(width), _) | (None, Some(width)) => width,
            (None, None) if hidden % heads == 0 => hidden / heads,
            (None, None) => {
                let reason = format!(
                    "is missing, and num_attention_heads {heads} does not divide hidden_size {hidden}"
                );
                return Err(fields.refuse("head_dim", reason));
            }
        };
        let bias = fields.flag_or("attention_bias", false)?;
        let score_scale = (head_dim as f64).powf(-0.5);
        Ok(Self { heads, kv_heads, head_dim, qkv_bias: bias, output_bias: bias, qk_norm: None, score_scale })
    }
}

impl SparseConfig {
    /// Checks fields that depend on one another.
    pub(super) fn check(self, fields: Fields<'_>) -> Result<Self, ConfigError> {
        if self.top_k > self.experts {
            let reason = format!("is {}, more than the {} experts there are", self.top_k, self.experts);
            return Err(fields.refuse("num_experts_per_tok", reason));
        }
        if let Routing::Sigmoid { groups, top_groups, .. } = self.routing {
            if self.experts % groups != 0 || self.experts / groups < 2 {
                let reason = format!(
                    "is {groups}, which does not divide {} experts into groups of two or more",
                    self.experts
                );
                return Err(fields.refuse("n_group", reason));
            }
            if top_groups > groups {
                return Err(
                    fields.refuse("topk_group", format!("is {top_groups}, more than n_group {groups}"))
                );
            }
            if top_groups * (self.experts / groups) < self.top_k {
                let reason = format!("is {top_groups}, whose groups have fewer than {} experts", self.top_k);
                return Err(fields.refuse("topk_group", reason));
            }
        }
        Ok(self)
    }
}

/// The fields that all families have, besides attention and feed-forward.
pub(super) struct Frame {
    pub(super) vocab: i64,
    pub(super) hidden: i64,
    pub(super) layers: i64,
    pub(super) max_context: usize,
    pub(super) norm_eps: f64,
    pub(super) tied_head: bool,
}

impl Frame {
    pub(super) fn parse(fields: Fields<'_>) -> Result<Self, ConfigError> {
        match fields.text("hidden_act")? {
            None | Some("silu") => {}
            Some(other) => {
                return Err(fields.refuse("hidden_act", format!("is {other:?}, \"silu\" is supported")));
            }
        }
        if fields.flag_or("use_sliding_window", false)? {
            return Err(fields.refuse("use_sliding_window", "is true, only full attention is supported"));
        }
        let context = fields.size("max_position_embeddings", bounds::CONTEXT)?;
        Ok(Self {
            vocab: fields.size("vocab_size", bounds::VOCAB)?,
            hidden: fields.size("hidden_size", bounds::WIDTH)?,
            layers: fields.size("num_hidden_layers", bounds::LAYERS)?,
            max_context: usize::try_from(context).unwrap_or(0),
            norm_eps: fields.optional_number("rms_norm_eps", bounds::EPS)?.unwrap_or(1e-6),
            tied_head: fields.flag_or("tie_word_embeddings", false)?,
        })
    }

    /// The configuration of a model whose blocks are Llama's and whose layers all attend to the whole sequence.
    pub(super) fn config(
        self,
        family: Family,
        attention: Attention,
        rope: RopeConfig,
        layers: Vec<FeedForward>,
    ) -> DecoderConfig {
        let Self { vocab, hidden, max_context, norm_eps, tied_head, .. } = self;
        DecoderConfig {
            family,
            vocab,
            hidden,
            max_context,
            norm_eps,
            tied_head,
            attention,
            rope,
            layers,
            block: BlockConfig::default(),
            sliding: None,
            extra_layers: 0,
            vision: None,
        }
    }

    /// All layers with the same dense feed-forward unit.
    pub(super) fn dense_layers(
        &self,
        fields: Fields<'_>,
        bias: bool,
    ) -> Result<Vec<FeedForward>, ConfigError> {
        let intermediate = fields.size("intermediate_size", bounds::WIDTH)?;
        Ok((0..self.layers).map(|_| FeedForward::Dense { intermediate, bias }).collect())
    }
}
