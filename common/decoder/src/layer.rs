//! One layer of a decoder: attention, then feed-forward, each after a norm and added to what came in.

use tch::Tensor;
use videosdgx_tensor::{KvCache, TensorError, Weights};

use crate::attention::{Attention, Step};
use crate::mlp::{GatedNames, GatedUnit};
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
    Dense(GatedUnit),
    Sparse(Mixture),
}

impl Layer {
    /// Layer `index` of the checkpoint under `weights`.
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
                Unit::Dense(GatedUnit::load(weights, names, config.hidden, *intermediate, *bias)?)
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

    /// `[rows, hidden]`, after the first norm → what attention adds.
    pub(crate) fn attend(
        &self,
        normed: &Tensor,
        step: &Step<'_>,
        index: usize,
        cache: &mut KvCache,
    ) -> Tensor {
        self.attention.forward(normed, step, index, cache)
    }

    /// `[rows, hidden]`, after the second norm → what feed-forward adds.
    pub(crate) fn feed(&self, normed: &Tensor) -> Tensor {
        match &self.feed_forward {
            Unit::Dense(unit) => unit.forward(normed),
            Unit::Sparse(mixture) => mixture.forward(normed),
        }
    }
}
