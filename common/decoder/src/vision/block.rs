//! A block of the vision tower: attention among the patches of a frame, then feed-forward, each on a normalised
//! input.

use tch::Tensor;
use videosdgx_tensor::{LayerNorm, Linear, TensorError, Weights, attention};

use super::VisionConfig;
use super::rotary::Rotary;

/// Epsilon of all norms of the tower; not in the configuration.
pub(super) const NORM_EPS: f64 = 1e-6;

pub(super) struct Block {
    attention_norm: LayerNorm,
    qkv: Linear,
    output: Linear,
    mlp_norm: LayerNorm,
    up: Linear,
    down: Linear,
    heads: i64,
    gelu: &'static str,
}

impl Block {
    pub(super) fn load(weights: &Weights, config: &VisionConfig) -> Result<Self, TensorError> {
        let (hidden, intermediate) = (config.hidden, config.intermediate);
        Ok(Self {
            attention_norm: LayerNorm::load(&weights.at("norm1"), hidden, NORM_EPS)?,
            qkv: weights.linear("attn.qkv", hidden, 3 * hidden, true)?,
            output: weights.linear("attn.proj", hidden, hidden, true)?,
            mlp_norm: LayerNorm::load(&weights.at("norm2"), hidden, NORM_EPS)?,
            up: weights.linear("mlp.linear_fc1", hidden, intermediate, true)?,
            down: weights.linear("mlp.linear_fc2", intermediate, hidden, true)?,
            heads: config.heads,
            gelu: if config.tanh_gelu { "tanh" } else { "none" },
        })
    }

    /// `hidden`: `[patches, width]`; `frames`: number of patches of each frame, in order.
    pub(super) fn forward(&self, hidden: &Tensor, rotary: &Rotary, frames: &[i64]) -> Tensor {
        let hidden = hidden + self.attend(&self.attention_norm.forward(hidden), rotary, frames);
        let inner = self.up.forward(&self.mlp_norm.forward(&hidden)).gelu(self.gelu);
        self.down.forward(&inner) + hidden
    }

    fn attend(&self, input: &Tensor, rotary: &Rotary, frames: &[i64]) -> Tensor {
        // [patches, 3, heads, head]
        let qkv = self.qkv.forward(input).unflatten(-1, [3, self.heads, -1]);
        let query = rotary.rotate(&qkv.select(1, 0));
        let key = rotary.rotate(&qkv.select(1, 1));
        let value = qkv.select(1, 2);
        let mut start = 0;
        let mut attended = Vec::with_capacity(frames.len());
        for &length in frames {
            // [1, heads, length, head]
            let part = |values: &Tensor| values.narrow(0, start, length).transpose(0, 1).unsqueeze(0);
            let frame = attention(&part(&query), &part(&key), &part(&value), None, None);
            attended.push(frame.squeeze_dim(0).transpose(0, 1).flatten(1, 2));
            start += length;
        }
        self.output.forward(&Tensor::cat(&attended, 0))
    }
}
