//! One block: self-attention, cross-attention and feed-forward, each after a norm.

use videosdgx_tensor::{LayerNorm, Linear, Rope, RowModulation, Tensor, TensorError, Weights, gated_add};

use super::TransformerConfig;
use super::attention::{CrossAttention, CrossMemory, SelfAttention};

pub(super) struct Block {
    norm: LayerNorm,
    self_attention: SelfAttention,
    cross_norm: Option<LayerNorm>,
    pub(super) cross_attention: CrossAttention,
    first: Linear,
    second: Linear,
}

/// Modulation of a block by the timestep: shift, 1 + scale and gate of the self-attention, then of the feed-forward part;
/// each `[width]` f32.
pub(super) struct Modulation {
    rows: [Tensor; 6],
}

impl Modulation {
    /// From `[6, width]` f32.
    pub(super) fn new(table: &Tensor) -> Self {
        Self { rows: std::array::from_fn(|row| table.select(0, row as i64)) }
    }
}

impl Block {
    pub(super) fn load(weights: &Weights, config: &TransformerConfig) -> Result<Self, TensorError> {
        let width = config.width();
        let cross_norm = match config.cross_attn_norm {
            true => Some(LayerNorm::load(&weights.at("norm2"), width, config.eps)?),
            false => None,
        };
        Ok(Self {
            norm: LayerNorm::without_affine(width, config.eps),
            self_attention: SelfAttention::load(&weights.at("attn1"), config)?,
            cross_norm,
            cross_attention: CrossAttention::load(&weights.at("attn2"), config)?,
            first: weights.linear("ffn.net.0.proj", width, config.ffn_dim, true)?,
            second: weights.linear("ffn.net.2", config.ffn_dim, width, true)?,
        })
    }

    /// `[batch, tokens, width]` → the same.
    pub(super) fn attend_self(&self, hidden: Tensor, modulation: &Modulation, rope: &Rope) -> Tensor {
        let [shift, one_plus_scale, gate, ..] = &modulation.rows;
        let mixed = self
            .self_attention
            .forward(&self.norm.modulated(&hidden, RowModulation::new(one_plus_scale, shift, None)), rope);
        gated_add(hidden, &mixed, gate, None)
    }

    /// `[batch, tokens, width]` → the same; `memory` and `mask` have the same batch size.
    pub(super) fn attend_cross_and_feed(
        &self,
        mut hidden: Tensor,
        modulation: &Modulation,
        memory: &CrossMemory,
        mask: Option<&Tensor>,
    ) -> Tensor {
        let mixed = match &self.cross_norm {
            Some(norm) => self.cross_attention.forward(&norm.forward(&hidden), memory, mask),
            None => self.cross_attention.forward(&hidden, memory, mask),
        };
        hidden += mixed;
        let [.., shift, one_plus_scale, gate] = &modulation.rows;
        let inner = self
            .first
            .forward(&self.norm.modulated(&hidden, RowModulation::new(one_plus_scale, shift, None)))
            .gelu_("tanh");
        gated_add(hidden, &self.second.forward(&inner), gate, None)
    }
}
