//! The parts of a decoder's configuration.

use super::{ConfigError, Fields};

/// Bounds of what is computed at all: far above every published model, far below what overflows.
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

/// How a layer attends.
#[derive(Debug, Clone, PartialEq)]
pub enum Attention {
    /// Query heads in groups that share keys and values (Ainslie et al. 2023, "GQA").
    Grouped(Grouped),
    /// Keys and values from one latent vector (DeepSeek-AI 2024, "DeepSeek-V2").
    Latent(Latent),
}

/// Grouped-query attention.
#[derive(Debug, Clone, PartialEq)]
pub struct Grouped {
    /// Query heads.
    pub heads: i64,
    /// Heads of keys and values; divides `heads`.
    pub kv_heads: i64,
    /// Width of a head; not `hidden / heads` in general.
    pub head_dim: i64,
    /// Whether q, k and v have a bias.
    pub qkv_bias: bool,
    /// Whether the output has a bias.
    pub output_bias: bool,
    /// Epsilon of the norm of each head of q and k, before the rotation; none: no such norm.
    pub qk_norm: Option<f64>,
}

/// Multi-head latent attention.
#[derive(Debug, Clone, PartialEq)]
pub struct Latent {
    /// Query heads.
    pub heads: i64,
    /// Whether queries go through a narrow layer.
    pub query: QueryProjection,
    /// Width of the latent vector that keys and values are made of.
    pub latent: i64,
    /// Part of a head without position.
    pub nope_dim: i64,
    /// Part of a head with position; its key is one for all heads.
    pub rope_dim: i64,
    /// Width of a head's value.
    pub value_dim: i64,
    /// Whether the first projections and the output have a bias.
    pub bias: bool,
    /// Epsilon of the norms of the latent and of the narrow query.
    pub latent_norm_eps: f64,
}

impl Latent {
    /// Width of a query head: the part without and the part with position.
    #[must_use]
    pub fn query_dim(&self) -> i64 {
        self.nope_dim + self.rope_dim
    }
}

/// How queries are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryProjection {
    /// One projection.
    Direct,
    /// Down to this rank, a norm, and up.
    LowRank(i64),
}

/// What follows attention in a layer: a gated unit, `down(silu(gate x) · up x)`.
#[derive(Debug, Clone, PartialEq)]
pub enum FeedForward {
    /// One.
    Dense {
        /// Its width.
        intermediate: i64,
        /// Whether its linears have biases.
        bias: bool,
    },
    /// A few of many.
    Sparse(Sparse),
}

/// A mixture of experts.
#[derive(Debug, Clone, PartialEq)]
pub struct Sparse {
    /// How many there are.
    pub experts: i64,
    /// How many a token goes through.
    pub top_k: i64,
    /// Width of one.
    pub intermediate: i64,
    /// Width of the expert every token goes through, added without a gate; none: there is none.
    pub shared_intermediate: Option<i64>,
    /// How they are chosen and weighed.
    pub routing: Routing,
}

/// How experts are chosen and weighed; in f32.
#[derive(Debug, Clone, PartialEq)]
pub enum Routing {
    /// Softmax over all, the likeliest, `renormalize`d to 1.
    Softmax {
        /// Whether the weights of the chosen sum to 1.
        renormalize: bool,
    },
    /// Sigmoid scores; chosen by score + correction bias within the best groups, weighed by the score alone.
    Sigmoid {
        /// Whether the weights are divided by their sum.
        renormalize: bool,
        /// Groups of consecutive experts, each rated by its two best.
        groups: i64,
        /// How many groups are looked into.
        top_groups: i64,
        /// Multiplies the weights.
        scale: f64,
    },
}

impl Grouped {
    /// Heads, sharing and width, from the fields that all families with grouped attention have in common.
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
        Ok(Self { heads, kv_heads, head_dim, qkv_bias: bias, output_bias: bias, qk_norm: None })
    }
}

impl Sparse {
    /// Checks what belongs together.
    pub(super) fn check(self, fields: Fields<'_>) -> Result<Self, ConfigError> {
        if self.top_k > self.experts {
            let reason = format!("is {}, more than the {} experts there are", self.top_k, self.experts);
            return Err(fields.refuse("num_experts_per_tok", reason));
        }
        if let Routing::Sigmoid { groups, top_groups, .. } = self.routing {
            if self.experts % groups != 0 || self.experts / groups < 2 {
                let reason = format!(
                    "is {groups}, which does not cut {} experts into groups of two or more",
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
                let reason = format!("is {top_groups}, groups that hold fewer than {} experts", self.top_k);
                return Err(fields.refuse("topk_group", reason));
            }
        }
        Ok(self)
    }
}

/// What every family has, besides attention and feed-forward.
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

    /// All layers with the same dense unit.
    pub(super) fn dense_layers(
        &self,
        fields: Fields<'_>,
        bias: bool,
    ) -> Result<Vec<FeedForward>, ConfigError> {
        let intermediate = fields.size("intermediate_size", bounds::WIDTH)?;
        Ok((0..self.layers).map(|_| FeedForward::Dense { intermediate, bias }).collect())
    }
}
