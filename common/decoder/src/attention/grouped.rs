//! Grouped-query attention (Ainslie et al. 2023), with normalised query and key heads where the family has them.

use tch::Tensor;
use videosdgx_tensor::{AttentionSpan, KvCache, Linear, TensorError, Weights, rotate_heads};

use super::{Step, size};
use crate::DecoderConfig;
use crate::names::{Names, Part};
use crate::norm::norm_weight;

pub(crate) struct Grouped {
    /// Queries, keys and values, concatenated.
    qkv: Linear,
    output: Linear,
    /// Weights of the norms of each query and key head `[head_dim]`, and their epsilon.
    norms: Option<(Tensor, Tensor, f64)>,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    scale: f64,
    span: AttentionSpan,
}

impl Grouped {
    pub(super) fn load(
        weights: &Weights,
        config: &crate::GroupedConfig,
        model: &DecoderConfig,
        names: Names,
        span: AttentionSpan,
    ) -> Result<Self, TensorError> {
        let hidden = model.hidden;
        let (queries, values) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        let parts = [
            (names.part(Part::Query), queries),
            (names.part(Part::Key), values),
            (names.part(Part::Value), values),
        ];
        let norm = |part| norm_weight(&weights.at(names.part(part)), config.head_dim, &model.block);
        let norms = match config.qk_norm {
            Some(eps) => Some((norm(Part::QueryNorm)?, norm(Part::KeyNorm)?, eps)),
            None => None,
        };
        Ok(Self {
            qkv: weights.fused_linear(&parts, hidden, config.qkv_bias)?,
            output: weights.linear(names.part(Part::Output), queries, hidden, config.output_bias)?,
            norms,
            heads: size(config.heads),
            kv_heads: size(config.kv_heads),
            head_dim: size(config.head_dim),
            scale: config.score_scale,
            span,
        })
    }

    pub(super) fn forward(
        &self,
        input: &Tensor,
        step: &Step<'_>,
        layer: usize,
        cache: &mut KvCache,
    ) -> Tensor {
        let Self { heads, kv_heads, head_dim, .. } = *self;
        let mut rows = self.qkv.forward(input);
        let norms = self.norms.as_ref();
        let of_queries = norms.map(|(weight, _, eps)| (weight, *eps));
        let of_keys = norms.map(|(_, weight, eps)| (weight, *eps));
        let angles = step.angles(self.span);
        rotate_heads(&mut rows, 0, heads, head_dim, of_queries, angles, step.style);
        rotate_heads(&mut rows, heads * head_dim, kv_heads, head_dim, of_keys, angles, step.style);
        let part = |first: usize, heads: usize| {
            let part = rows.narrow(-1, (first * head_dim) as i64, (heads * head_dim) as i64);
            part.unflatten(-1, [heads as i64, head_dim as i64])
        };
        let value = part(heads + kv_heads, kv_heads);
        cache.write(layer, &part(heads, kv_heads), Some(&value), &step.segments);
        let attended = cache.attention(layer, &part(0, heads), &step.segments, self.span, self.scale);
        self.output.forward(&attended.flatten(-2, -1))
    }
}
