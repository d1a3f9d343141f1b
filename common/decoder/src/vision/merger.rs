//! Merges blocks of patches into tokens at the width of the text layers.

use tch::Tensor;
use videosdgx_tensor::{LayerNorm, Linear, TensorError, Weights};

use super::VisionConfig;
use super::block::NORM_EPS;

/// Whether patches are normalised one by one, or merge blocks as a whole.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Normalized {
    Patches,
    Blocks,
}

pub(super) struct Merger {
    norm: LayerNorm,
    up: Linear,
    down: Linear,
    normalized: Normalized,
    /// Values of a merge block.
    width: i64,
}

impl Merger {
    pub(super) fn load(
        weights: &Weights,
        config: &VisionConfig,
        normalized: Normalized,
    ) -> Result<Self, TensorError> {
        let width = config.hidden * config.merge * config.merge;
        let norm_width = if normalized == Normalized::Blocks { width } else { config.hidden };
        Ok(Self {
            norm: LayerNorm::load(&weights.at("norm"), norm_width, NORM_EPS)?,
            up: weights.linear("linear_fc1", width, width, true)?,
            down: weights.linear("linear_fc2", width, config.out_hidden, true)?,
            normalized,
            width,
        })
    }

    /// `[patches, width]` in merge blocks → `[tokens, out_hidden]`.
    pub(super) fn forward(&self, hidden: &Tensor) -> Tensor {
        let blocks = match self.normalized {
            Normalized::Blocks => self.norm.forward(&hidden.reshape([-1, self.width])),
            Normalized::Patches => self.norm.forward(hidden).reshape([-1, self.width]),
        };
        self.down.forward(&self.up.forward(&blocks).gelu("none"))
    }
}
