//! One layer of a decoder: attention, then feed-forward, each applied to a normalised input and added to the residual
//! stream.

use tch::Tensor;
use videosdgx_tensor::{KvCache, TensorError, Weights};

use crate::attention::{Attention, Step};
use crate::mlp::{GatedMlp, GatedNames};
use crate::moe::Mixture;
use crate::names::{Layout, Part};
use crate::{DecoderConfig, FeedForward};

pub(crate) struct Layer {
    /// Weight of the norm before attention, `[hidden]`.
    pub(crate) input_norm: Tensor,
    /// Weight of the norm before feed-forward, `[hidden]`.
    pub(crate) mlp_norm: Tensor,
    attention: Attention,
    feed_forward: Unit,
}

enum Unit {
    Dense(GatedMlp),
    Sparse(Mixture),
}

impl Layer {
    /// Loads layer `index` of the checkpoint below `weights`.
    pub(crate) fn load(
        weights: &Weights,
        config: &DecoderConfig,
        layout: Layout,
        index: usize,
    ) -> Result<Self, TensorError> {
        let weights = &weights.at(layout.layer(config.family, index));
        let norm = |part| weights.at(layout.part(part)).tensor("weight", &[config.hidden]);
        let names = GatedNames {
            gate: layout.part(Part::Gate),
            up: layout.part(Part::Up),
            down: layout.part(Part::Down),
        };
        let feed_forward = match &config.layers[index] {
            FeedForward::Dense { intermediate, bias } => {
                Unit::Dense(GatedMlp::load(weights, names, config.hidden, *intermediate, *bias)?)
            }
            FeedForward::Sparse(sparse) => {
                Unit::Sparse(Mixture::load(weights, sparse, config.hidden, layout)?)
            }
        };
        Ok(Self {
            input_norm: norm(Part::InputNorm)?,
            mlp_norm: norm(Part::MlpNorm)?,
            attention: Attention::load(weights, config, layout)?,
            feed_forward,
        })
    }

    /// `[rows, hidden]`, after the first norm → the output of attention, which is added to the residual stream.
    pub(crate) fn attend(
        &self,
        normed: &Tensor,
        step: &Step<'_>,
        index: usize,
        cache: &mut KvCache,
    ) -> Tensor {
        self.attention.forward(normed, step, index, cache)
    }

    /// `[rows, hidden]`, after the second norm → the output of feed-forward, which is added to the residual stream.
    pub(crate) fn feed_forward(&self, normed: &Tensor) -> Tensor {
        match &self.feed_forward {
            Unit::Dense(unit) => unit.forward(normed),
            Unit::Sparse(mixture) => mixture.forward(normed),
        }
    }
}
