//! One layer of a decoder: attention, then feed-forward, each applied to a normalised input and added to the residual
//! stream, in some families after another norm.

use tch::{Kind, Tensor};
use videosdgx_tensor::{KvCache, TensorError, Weights, rms_norm};

use crate::attention::{Attention, Step};
use crate::mlp::{GatedMlp, GatedNames};
use crate::moe::Mixture;
use crate::names::{Names, Part};
use crate::norm::norm_weight;
use crate::{DecoderConfig, FeedForward};

pub(crate) struct Layer {
    /// Weight of the norm before attention, `[hidden]`.
    pub(crate) input_norm: Tensor,
    /// Weight of the norm before feed-forward, `[hidden]`.
    pub(crate) mlp_norm: Tensor,
    /// Norms of the outputs of attention and feed-forward.
    output_norms: Option<OutputNorms>,
    attention: Attention,
    feed_forward: Unit,
}

/// Weights `[hidden]`, and the epsilon of both.
struct OutputNorms {
    attention: Tensor,
    feed_forward: Tensor,
    eps: f64,
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
        names: Names,
        index: usize,
    ) -> Result<Self, TensorError> {
        let weights = &weights.at(names.layer(index));
        let norm = |part| norm_weight(&weights.at(names.part(part)), config.hidden, &config.block);
        let gated = GatedNames {
            gate: names.part(Part::Gate),
            up: names.part(Part::Up),
            down: names.part(Part::Down),
        };
        let output_norms = match config.block.output_norms {
            true => Some(OutputNorms {
                attention: norm(Part::AttentionOutputNorm)?,
                feed_forward: norm(Part::MlpOutputNorm)?,
                eps: config.norm_eps,
            }),
            false => None,
        };
        let feed_forward = match &config.layers[index] {
            FeedForward::Dense { intermediate, bias } => {
                let sizes = [config.hidden, *intermediate];
                Unit::Dense(GatedMlp::load(weights, gated, sizes, *bias, config.block.activation)?)
            }
            FeedForward::Sparse(sparse) => {
                Unit::Sparse(Mixture::load(weights, sparse, config.hidden, names)?)
            }
        };
        Ok(Self {
            input_norm: norm(Part::InputNorm)?,
            mlp_norm: norm(Part::MlpNorm)?,
            output_norms,
            attention: Attention::load(weights, config, names, index)?,
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
        let output = self.attention.forward(normed, step, index, cache);
        self.normed(output, |norms| &norms.attention)
    }

    /// `[rows, hidden]`, after the second norm → the output of feed-forward, which is added to the residual stream.
    pub(crate) fn feed_forward(&self, normed: &Tensor) -> Tensor {
        let output = match &self.feed_forward {
            Unit::Dense(unit) => unit.forward(normed),
            Unit::Sparse(mixture) => mixture.forward(normed),
        };
        self.normed(output, |norms| &norms.feed_forward)
    }

    /// The output as it is added to the residual stream: in f32 after its norm, if the family has one.
    fn normed(&self, output: Tensor, weight: impl Fn(&OutputNorms) -> &Tensor) -> Tensor {
        match &self.output_norms {
            Some(norms) => rms_norm(&output.to_kind(Kind::Float), weight(norms), norms.eps),
            None => output,
        }
    }
}
