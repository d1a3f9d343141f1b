//! Multi-head latent attention (DeepSeek-AI 2024, "DeepSeek-V2"): the cache holds one latent vector and one rotated
//! key for each token, shared by all heads. The expansion of latents into keys is absorbed into the queries, and that
//! into values into the output, so that attention operates on the latents themselves.

use tch::{Kind, Tensor};
use videosdgx_tensor::{AttentionSpan, KvCache, Linear, TensorError, Weights, rms_norm, rotate_heads};

use super::{Step, size};
use crate::QueryProjection;

pub(crate) struct Latent {
    query: Query,
    /// Latent and rotated key, concatenated.
    compress: Linear,
    latent_norm: Tensor,
    /// `[heads, nope, latent]`: from a latent to each head's key.
    to_keys: Tensor,
    /// `[heads, latent, value]`: from a latent to each head's value.
    to_values: Tensor,
    output: Linear,
    config: crate::LatentConfig,
    scale: f64,
}

enum Query {
    Direct(Linear),
    LowRank { down: Linear, norm: Tensor, up: Linear },
}

impl Latent {
    pub(super) fn load(
        weights: &Weights,
        config: &crate::LatentConfig,
        hidden: i64,
    ) -> Result<Self, TensorError> {
        let weights = weights.at("self_attn");
        let queries = config.heads * config.query_dim();
        let query = match config.query {
            QueryProjection::Direct => Query::Direct(weights.linear("q_proj", hidden, queries, false)?),
            QueryProjection::LowRank(rank) => Query::LowRank {
                down: weights.linear("q_a_proj", hidden, rank, config.bias)?,
                norm: weights.at("q_a_layernorm").tensor("weight", &[rank])?,
                up: weights.linear("q_b_proj", rank, queries, false)?,
            },
        };
        let width = config.latent + config.rope_dim;
        let expansion = config.heads * (config.nope_dim + config.value_dim);
        let table = weights.unquantized().embedding("kv_b_proj", expansion, config.latent)?;
        // All rows of a weight of any format, in the compute type.
        let expand = table.forward(&Tensor::arange(expansion, (Kind::Int64, weights.device())));
        let expand = expand.view([config.heads, config.nope_dim + config.value_dim, config.latent]);
        let to_keys = expand.narrow(1, 0, config.nope_dim).contiguous();
        let to_values = expand.narrow(1, config.nope_dim, config.value_dim).transpose(1, 2).contiguous();
        Ok(Self {
            query,
            compress: weights.linear("kv_a_proj_with_mqa", hidden, width, config.bias)?,
            latent_norm: weights.at("kv_a_layernorm").tensor("weight", &[config.latent])?,
            to_keys,
            to_values,
            output: weights.linear("o_proj", config.heads * config.value_dim, hidden, config.bias)?,
            scale: (config.query_dim() as f64).powf(-0.5),
            config: config.clone(),
        })
    }

    pub(super) fn forward(
        &self,
        input: &Tensor,
        step: &Step<'_>,
        layer: usize,
        cache: &mut KvCache,
    ) -> Tensor {
        let config = &self.config;
        let key = self.key(input, step);
        cache.write(layer, &key.unsqueeze(1), None, &step.segments);

        let queries = self.queries(input).unflatten(-1, [config.heads, config.query_dim()]);
        let absorbed = per_head(&queries.narrow(-1, 0, config.nope_dim), &self.to_keys);
        let mut rotated = queries.narrow(-1, config.nope_dim, config.rope_dim).flatten(-2, -1);
        rotate(&mut rotated, config.heads, config.rope_dim, step);
        let rotated = rotated.unflatten(-1, [config.heads, config.rope_dim]);
        let queries = Tensor::cat(&[absorbed, rotated], -1);

        let latents = cache.attention(layer, &queries, &step.segments, AttentionSpan::All, self.scale);
        self.output.forward(&per_head(&latents, &self.to_values).flatten(-2, -1))
    }

    /// `[rows, hidden]` → `[rows, latent + rope]`: the content of the cache.
    fn key(&self, input: &Tensor, step: &Step<'_>) -> Tensor {
        let config = &self.config;
        let compressed = self.compress.forward(input);
        let latent = compressed.narrow(-1, 0, config.latent).contiguous();
        let mut rotated = compressed.narrow(-1, config.latent, config.rope_dim).contiguous();
        rotate(&mut rotated, 1, config.rope_dim, step);
        Tensor::cat(&[rms_norm(&latent, &self.latent_norm, config.latent_norm_eps), rotated], -1)
    }

    fn queries(&self, input: &Tensor) -> Tensor {
        match &self.query {
            Query::Direct(query) => query.forward(input),
            Query::LowRank { down, norm, up } => {
                up.forward(&rms_norm(&down.forward(input), norm, self.config.latent_norm_eps))
            }
        }
    }
}

fn rotate(rows: &mut Tensor, heads: i64, dim: i64, step: &Step<'_>) {
    rotate_heads(rows, 0, size(heads), size(dim), None, &step.angles, step.style);
}

/// `[rows, heads, a]` times `[heads, a, b]` → `[rows, heads, b]`, contiguous.
fn per_head(rows: &Tensor, matrices: &Tensor) -> Tensor {
    rows.transpose(0, 1).matmul(matrices).transpose(0, 1).contiguous()
}
