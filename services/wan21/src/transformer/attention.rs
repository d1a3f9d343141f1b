//! Self-attention and cross-attention of a block.

use videosdgx_tensor::{Linear, RmsNorm, Rope, Tensor, TensorError, Weights, attention, norm_rotate};

use super::TransformerConfig;

/// Attention among all tokens of the video.
pub(super) struct SelfAttention {
    /// Query, key and value, concatenated.
    projection: Linear,
    output: Linear,
    query_norm: RmsNorm,
    key_norm: RmsNorm,
    heads: i64,
}

impl SelfAttention {
    pub(super) fn load(weights: &Weights, config: &TransformerConfig) -> Result<Self, TensorError> {
        let width = config.width();
        Ok(Self {
            projection: weights.fused_linear(
                &[("to_q", width), ("to_k", width), ("to_v", width)],
                width,
                true,
            )?,
            output: weights.linear("to_out.0", width, width, true)?,
            query_norm: RmsNorm::load(&weights.at("norm_q"), width, config.eps)?,
            key_norm: RmsNorm::load(&weights.at("norm_k"), width, config.eps)?,
            heads: config.num_attention_heads,
        })
    }

    /// `[batch, tokens, width]` → the same.
    pub(super) fn forward(&self, hidden: &Tensor, rope: &Rope) -> Tensor {
        let projected = self.projection.forward(hidden);
        norm_rotate(&projected, 0, self.heads, &self.query_norm, Some(rope));
        norm_rotate(&projected, 1, self.heads, &self.key_norm, Some(rope));
        // [batch, tokens, 3, heads, head] → three of [batch, heads, tokens, head]
        let parts = projected.unflatten(-1, [3, self.heads, -1]).permute([2, 0, 3, 1, 4]);
        let mixed = attention(&parts.select(0, 0), &parts.select(0, 1), &parts.select(0, 2), None, None);
        self.output.forward(&mixed.transpose(1, 2).flatten(2, 3))
    }
}

/// Attention from the tokens of the video to the prompt and, for image to video, to the image.
pub(super) struct CrossAttention {
    query: Linear,
    /// Key and value, concatenated.
    text: Linear,
    image: Option<(Linear, RmsNorm)>,
    output: Linear,
    query_norm: RmsNorm,
    key_norm: RmsNorm,
    heads: i64,
}

/// Keys and values of a prompt (and image), which are constant while denoising.
pub(super) struct CrossMemory {
    text: KeyValue,
    image: Option<KeyValue>,
}

/// `[batch, heads, tokens, head]` each.
struct KeyValue {
    key: Tensor,
    value: Tensor,
}

impl CrossAttention {
    pub(super) fn load(weights: &Weights, config: &TransformerConfig) -> Result<Self, TensorError> {
        let width = config.width();
        let image = match config.added_kv_proj_dim {
            None => None,
            Some(inputs) => Some((
                weights.fused_linear(&[("add_k_proj", width), ("add_v_proj", width)], inputs, true)?,
                RmsNorm::load(&weights.at("norm_added_k"), width, config.eps)?,
            )),
        };
        Ok(Self {
            query: weights.linear("to_q", width, width, true)?,
            text: weights.fused_linear(&[("to_k", width), ("to_v", width)], width, true)?,
            image,
            output: weights.linear("to_out.0", width, width, true)?,
            query_norm: RmsNorm::load(&weights.at("norm_q"), width, config.eps)?,
            key_norm: RmsNorm::load(&weights.at("norm_k"), width, config.eps)?,
            heads: config.num_attention_heads,
        })
    }

    /// Keys and values; `text`: `[batch, tokens, width]`, `image`: `[1, tokens, width]`.
    pub(super) fn memory(&self, text: &Tensor, image: Option<&Tensor>) -> CrossMemory {
        let key_value = |projected: Tensor, norm: &RmsNorm| {
            norm_rotate(&projected, 0, self.heads, norm, None);
            let parts = projected.unflatten(-1, [2, self.heads, -1]).permute([2, 0, 3, 1, 4]);
            KeyValue { key: parts.select(0, 0), value: parts.select(0, 1) }
        };
        let batch = text.size()[0];
        let image = image.zip(self.image.as_ref()).map(|(image, (projection, norm))| {
            let KeyValue { key, value } = key_value(projection.forward(image), norm);
            KeyValue {
                key: key.expand([batch, -1, -1, -1], false),
                value: value.expand([batch, -1, -1, -1], false),
            }
        });
        CrossMemory { text: key_value(self.text.forward(text), &self.key_norm), image }
    }

    /// `hidden`: `[batch, tokens, width]`, `mask`: f32 `[batch, 1, 1, text tokens]` → as `hidden`.
    pub(super) fn forward(&self, hidden: &Tensor, memory: &CrossMemory, mask: Option<&Tensor>) -> Tensor {
        let query = self.query.forward(hidden);
        norm_rotate(&query, 0, self.heads, &self.query_norm, None);
        let query = query.unflatten(-1, [self.heads, -1]).transpose(1, 2);
        let mut mixed = attention(&query, &memory.text.key, &memory.text.value, mask, None);
        if let Some(image) = &memory.image {
            mixed += attention(&query, &image.key, &image.value, None, None);
        }
        self.output.forward(&mixed.transpose(1, 2).flatten(2, 3))
    }
}
