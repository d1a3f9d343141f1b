//! The part of a block that concerns one stream.

use videosdgx_tensor::{Kind, Rope, Tensor, TensorError, Weights, gated_add, rms_modulated};

use super::TransformerConfig;
use super::config::Modality;
use super::embedder::{Embedded, Vectors, load_table};
use crate::attention::{CrossAttention, Memory, SelfAttention};
use crate::feed_forward::FeedForward;
use crate::names::TensorList;

/// Self-attention, attention to the prompt and feed-forward part of a stream.
pub(super) struct StreamBlock {
    self_attention: SelfAttention,
    text_attention: CrossAttention,
    feed_forward: FeedForward,
    /// Shift, 1 + scale and gate of self-attention, feed-forward part and, if modulated, attention to the prompt:
    /// `[6 or 9, 1, width]` f32.
    table: Tensor,
    text_modulated: bool,
    /// Shift and 1 + scale of the prompt: `[2, 1, width]` f32.
    prompt_table: Option<Tensor>,
    eps: f64,
}

/// The prefix of a stream's tensors within a block.
fn prefix(modality: Modality) -> &'static str {
    match modality {
        Modality::Video => "",
        Modality::Audio => "audio_",
    }
}

impl StreamBlock {
    pub(super) fn load(
        weights: &Weights,
        config: &TransformerConfig,
        modality: Modality,
    ) -> Result<Self, TensorError> {
        let (stream, prefix) = (config.stream(modality), prefix(modality));
        let width = stream.width();
        let attention = config.attention(stream, stream, width);
        let scales: &[i64] = if stream.text_modulated { &[1, 4, 7] } else { &[1, 4] };
        let shape = [stream.modulations(), width];
        let prompt_table = match config.prompt_modulated() {
            true => {
                Some(load_table(weights, &format!("{prefix}prompt_scale_shift_table"), [2, width], &[1])?)
            }
            false => None,
        };
        Ok(Self {
            self_attention: SelfAttention::load(&weights.at(format!("{prefix}attn1")), &attention)?,
            text_attention: CrossAttention::load(&weights.at(format!("{prefix}attn2")), &attention)?,
            feed_forward: FeedForward::load(&weights.at(format!("{prefix}ff")), width, stream.ff_bias)?,
            table: load_table(weights, &format!("{prefix}scale_shift_table"), shape, scales)?,
            text_modulated: stream.text_modulated,
            prompt_table,
            eps: config.norm_eps,
        })
    }

    pub(super) fn tensors(list: &mut TensorList, config: &TransformerConfig, modality: Modality) {
        let (stream, prefix) = (config.stream(modality), prefix(modality));
        let width = stream.width();
        let attention = config.attention(stream, stream, width);
        list.within(&format!("{prefix}attn1"), |list| attention.tensors(list));
        list.within(&format!("{prefix}attn2"), |list| attention.tensors(list));
        list.within(&format!("{prefix}ff"), |list| FeedForward::tensors(list, width, stream.ff_bias));
        list.tensor(&format!("{prefix}scale_shift_table"), &[stream.modulations(), width]);
        if config.prompt_modulated() {
            list.tensor(&format!("{prefix}prompt_scale_shift_table"), &[2, width]);
        }
    }

    /// Modulation vectors at a noise level.
    pub(super) fn vectors(&self, noise: &Embedded) -> Vectors {
        Vectors::new(&self.table, &noise.vectors, noise.rows.as_ref())
    }

    /// Keys and values of `prompts` `[prompts, tokens, width]`, modulated by the noise level's `[2, 1, width]` f32.
    pub(super) fn memory(&self, prompts: &Tensor, noise: Option<&Tensor>) -> Memory {
        let Some(table) = &self.prompt_table else { return self.text_attention.memory(prompts, None) };
        let table = noise.map_or_else(|| table.shallow_clone(), |noise| table + noise);
        let wide = prompts.to_kind(Kind::Float) * table.select(0, 1) + table.select(0, 0);
        self.text_attention.memory(&wide.to_kind(prompts.kind()), None)
    }

    /// `[batch, tokens, width]` → the same; `perturbed` as for [`SelfAttention::forward`].
    pub(super) fn attend_self(
        &self,
        hidden: Tensor,
        vectors: &Vectors,
        rope: &Rope,
        perturbed: &[bool],
    ) -> Tensor {
        let normed = rms_modulated(&hidden, self.eps, Some(vectors.modulation(1, 0)));
        let mixed = self.self_attention.forward(&normed, rope, perturbed);
        gated_add(hidden, &mixed, vectors.gate(2), vectors.rows())
    }

    /// `[batch, tokens, width]` → the same; `memory` and `mask` have the same batch size.
    pub(super) fn attend_text(
        &self,
        mut hidden: Tensor,
        vectors: &Vectors,
        memory: &Memory,
        mask: Option<&Tensor>,
    ) -> Tensor {
        if !self.text_modulated {
            let normed = rms_modulated(&hidden, self.eps, None);
            hidden += self.text_attention.forward(&normed, memory, None, mask);
            return hidden;
        }
        let normed = rms_modulated(&hidden, self.eps, Some(vectors.modulation(7, 6)));
        let mixed = self.text_attention.forward(&normed, memory, None, mask);
        gated_add(hidden, &mixed, vectors.gate(8), vectors.rows())
    }

    /// `[batch, tokens, width]` → the same.
    pub(super) fn feed(&self, hidden: Tensor, vectors: &Vectors) -> Tensor {
        let normed = rms_modulated(&hidden, self.eps, Some(vectors.modulation(4, 3)));
        gated_add(hidden, &self.feed_forward.forward(&normed), vectors.gate(5), vectors.rows())
    }
}
