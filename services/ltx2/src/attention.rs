//! Attention with an optional gate for each head (`LTX2Attention` of diffusers).

use videosdgx_tensor::{Linear, RmsNorm, Rope, Tensor, TensorError, Weights, attention, norm_rotate};

use crate::names::TensorList;

/// Epsilon of the norms of queries and keys: the class's default in the reference, not the configuration's.
const QUERY_KEY_EPS: f64 = 1e-6;

/// Sizes of an attention layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttentionShape {
    /// Width of the tokens that ask, and of the result.
    pub(crate) queries: i64,
    /// Width of the tokens that are attended to.
    pub(crate) context: i64,
    pub(crate) heads: i64,
    pub(crate) head: i64,
    pub(crate) bias: bool,
    pub(crate) output_bias: bool,
    pub(crate) gated: bool,
}

impl AttentionShape {
    fn width(&self) -> i64 {
        self.heads * self.head
    }

    pub(crate) fn tensors(&self, list: &mut TensorList) {
        let width = self.width();
        list.tensor("norm_q.weight", &[width]);
        list.tensor("norm_k.weight", &[width]);
        list.linear("to_q", self.queries, width, self.bias);
        list.linear("to_k", self.context, width, self.bias);
        list.linear("to_v", self.context, width, self.bias);
        list.linear("to_out.0", width, self.queries, self.output_bias);
        if self.gated {
            list.linear("to_gate_logits", self.queries, self.heads, true);
        }
    }
}

/// Norms and output of an attention layer.
struct Frame {
    query_norm: RmsNorm,
    key_norm: RmsNorm,
    gate: Option<Linear>,
    output: Linear,
    heads: i64,
}

impl Frame {
    fn load(weights: &Weights, shape: &AttentionShape) -> Result<Self, TensorError> {
        let width = shape.width();
        let gate = match shape.gated {
            true => Some(weights.unquantized().linear("to_gate_logits", shape.queries, shape.heads, true)?),
            false => None,
        };
        Ok(Self {
            query_norm: RmsNorm::load(&weights.at("norm_q"), width, QUERY_KEY_EPS)?,
            key_norm: RmsNorm::load(&weights.at("norm_k"), width, QUERY_KEY_EPS)?,
            gate,
            output: weights.linear("to_out.0", width, shape.queries, shape.output_bias)?,
            heads: shape.heads,
        })
    }

    /// `hidden`: the tokens that ask, `mixed`: `[batch, heads, tokens, head]` → as `hidden`.
    fn finish(&self, hidden: &Tensor, mixed: &Tensor) -> Tensor {
        let mut mixed = mixed.transpose(1, 2);
        if let Some(gate) = &self.gate {
            let gate = gate.forward(hidden).sigmoid_() * 2.0;
            mixed = mixed.g_mul_(&gate.unsqueeze(-1));
        }
        self.output.forward(&mixed.flatten(2, 3))
    }
}

/// Attention of tokens to one another.
pub(crate) struct SelfAttention {
    /// Query, key and value, concatenated.
    projection: Linear,
    frame: Frame,
}

impl SelfAttention {
    pub(crate) fn load(weights: &Weights, shape: &AttentionShape) -> Result<Self, TensorError> {
        let width = shape.width();
        let parts = [("to_q", width), ("to_k", width), ("to_v", width)];
        Ok(Self {
            projection: weights.fused_linear(&parts, shape.queries, shape.bias)?,
            frame: Frame::load(weights, shape)?,
        })
    }

    /// `[batch, tokens, width]` → the same. Elements of the batch that `perturbed` marks take each token's own value
    /// instead of the mixture; an empty list marks none.
    pub(crate) fn forward(&self, hidden: &Tensor, rope: &Rope, perturbed: &[bool]) -> Tensor {
        let heads = self.frame.heads;
        let projected = self.projection.forward(hidden);
        norm_rotate(&projected, 0, heads, &self.frame.query_norm, Some(rope));
        norm_rotate(&projected, 1, heads, &self.frame.key_norm, Some(rope));
        // [batch, tokens, 3, heads, head] → three of [batch, heads, tokens, head]
        let parts = projected.unflatten(-1, [3, heads, -1]).permute([2, 0, 3, 1, 4]);
        let mix = |parts: &Tensor| {
            attention(&parts.select(0, 0), &parts.select(0, 1), &parts.select(0, 2), None, None)
        };
        let mixed = match perturbed.contains(&true) {
            false => mix(&parts),
            true => {
                let each = perturbed.iter().enumerate().map(|(index, &perturbed)| {
                    let parts = parts.narrow(1, index as i64, 1);
                    if perturbed { parts.select(0, 2) } else { mix(&parts) }
                });
                Tensor::cat(&each.collect::<Vec<_>>(), 0)
            }
        };
        self.frame.finish(hidden, &mixed)
    }
}

/// Attention of tokens to those of another sequence.
pub(crate) struct CrossAttention {
    query: Linear,
    /// Key and value, concatenated.
    context: Linear,
    frame: Frame,
}

/// Keys and values of a sequence, `[batch, heads, tokens, head]` each.
pub(crate) struct Memory {
    key: Tensor,
    value: Tensor,
}

impl Memory {
    /// The elements `index` (Int64) of the batch.
    pub(crate) fn select(&self, index: &Tensor) -> Self {
        Self { key: self.key.index_select(0, index), value: self.value.index_select(0, index) }
    }
}

impl CrossAttention {
    pub(crate) fn load(weights: &Weights, shape: &AttentionShape) -> Result<Self, TensorError> {
        let width = shape.width();
        Ok(Self {
            query: weights.linear("to_q", shape.queries, width, shape.bias)?,
            context: weights.fused_linear(&[("to_k", width), ("to_v", width)], shape.context, shape.bias)?,
            frame: Frame::load(weights, shape)?,
        })
    }

    /// Keys and values of `context` `[batch, tokens, context width]`.
    pub(crate) fn memory(&self, context: &Tensor, rope: Option<&Rope>) -> Memory {
        let projected = self.context.forward(context);
        norm_rotate(&projected, 0, self.frame.heads, &self.frame.key_norm, rope);
        let parts = projected.unflatten(-1, [2, self.frame.heads, -1]).permute([2, 0, 3, 1, 4]);
        Memory { key: parts.select(0, 0), value: parts.select(0, 1) }
    }

    /// `hidden`: `[batch, tokens, width]`, `mask`: f32 `[batch, 1, 1, context tokens]`, added to the scores → as
    /// `hidden`.
    pub(crate) fn forward(
        &self,
        hidden: &Tensor,
        memory: &Memory,
        rope: Option<&Rope>,
        mask: Option<&Tensor>,
    ) -> Tensor {
        let query = self.query.forward(hidden);
        norm_rotate(&query, 0, self.frame.heads, &self.frame.query_norm, rope);
        let query = query.unflatten(-1, [self.frame.heads, -1]).transpose(1, 2);
        self.frame.finish(hidden, &attention(&query, &memory.key, &memory.value, mask, None))
    }
}
