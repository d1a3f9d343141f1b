//! Feed-forward by a mixture of experts.

mod router;

use tch::Tensor;
use videosdgx_tensor::{ExpertBank, ExpertShape, TensorError, Weights};

use crate::mlp::{GatedMlp, GatedNames};
use crate::names::{Layout, Names, Part, SHARED_EXPERTS};
use crate::{Activation, SparseConfig};
use router::{Choice, Router};

/// The names of the shared expert's linear layers, which only transformers' layout has.
const SHARED: GatedNames<'_> = GatedNames { gate: "gate_proj", up: "up_proj", down: "down_proj" };

/// Experts, their router, and the shared expert.
pub(crate) struct Mixture {
    router: Router,
    experts: ExpertBank,
    shared: Option<GatedMlp>,
}

impl Mixture {
    /// Loads the mixture of the layer that `weights` points to.
    pub(crate) fn load(
        weights: &Weights,
        config: &SparseConfig,
        hidden: i64,
        names: Names,
    ) -> Result<Self, TensorError> {
        let shape = ExpertShape { experts: config.experts, hidden, intermediate: config.intermediate };
        let bank = match names.layout() {
            Layout::Transformers => weights.at(names.part(Part::Experts)),
            Layout::Gguf => weights.clone(),
        };
        let shared = match config.shared_intermediate {
            Some(width) => Some(GatedMlp::load(
                &weights.at(SHARED_EXPERTS),
                SHARED,
                [hidden, width],
                false,
                Activation::Silu,
            )?),
            None => None,
        };
        Ok(Self {
            router: Router::load(weights, names.part(Part::Router), hidden, config)?,
            experts: ExpertBank::load(&bank, shape)?,
            shared,
        })
    }

    /// `[rows, hidden]` → `[rows, hidden]`.
    pub(crate) fn forward(&self, input: &Tensor) -> Tensor {
        let Choice { experts, weights } = self.router.choose(input);
        let sum = self.experts.forward(input, &experts, &weights);
        match &self.shared {
            Some(shared) => sum + shared.forward(input),
            None => sum,
        }
    }
}
