//! Selects the experts of each token and their weights, in f32.

use tch::{Kind, Tensor};
use videosdgx_tensor::{TensorError, Weights};

use crate::names::CORRECTION_BIAS;
use crate::{Routing, SparseConfig};

/// Prevents division by zero when weights are normalised (transformers' value).
const TINY: f64 = 1e-20;

/// Scores all experts and selects some for each token.
#[derive(Debug)]
pub(crate) struct Router {
    /// `[experts, hidden]` f32.
    weight: Tensor,
    /// `[experts]` f32: added to the scores for the selection only.
    correction: Option<Tensor>,
    config: SparseConfig,
}

/// The selected experts of each row.
pub(crate) struct Choice {
    /// `[rows, top_k]`, integers.
    pub(crate) experts: Tensor,
    /// `[rows, top_k]` f32.
    pub(crate) weights: Tensor,
}

impl Router {
    pub(crate) fn load(
        weights: &Weights,
        name: &str,
        hidden: i64,
        config: &SparseConfig,
    ) -> Result<Self, TensorError> {
        let router = weights.at(name);
        let weight = router.tensor_as("weight", &[config.experts, hidden], Kind::Float)?;
        let correction = match config.routing {
            Routing::Softmax { .. } => None,
            Routing::Sigmoid { .. } => {
                Some(router.tensor_as(CORRECTION_BIAS, &[config.experts], Kind::Float)?)
            }
        };
        Ok(Self { weight, correction, config: config.clone() })
    }

    /// `[rows, hidden]` → the selection for each row.
    pub(crate) fn choose(&self, input: &Tensor) -> Choice {
        let logits = input.to_kind(Kind::Float).linear(&self.weight, None::<&Tensor>);
        match self.config.routing {
            Routing::Softmax { renormalize } => {
                let (weights, experts) =
                    logits.softmax(-1, Kind::Float).topk(self.config.top_k, -1, true, true);
                let weights = if renormalize { &weights / total(&weights) } else { weights };
                // The reference implementation rounds the weights to the type of the activations.
                Choice { experts, weights: weights.to_kind(input.kind()).to_kind(Kind::Float) }
            }
            Routing::Sigmoid { renormalize, groups, top_groups, scale } => {
                let scores = logits.sigmoid();
                let rated = match &self.correction {
                    Some(correction) => &scores + correction,
                    None => scores.shallow_clone(),
                };
                let rated = within_best_groups(rated, groups, top_groups);
                let (_, experts) = rated.topk(self.config.top_k, -1, true, true);
                let weights = scores.gather(-1, &experts, false);
                let weights = if renormalize { &weights / (total(&weights) + TINY) } else { weights };
                Choice { experts, weights: weights * scale }
            }
        }
    }
}

fn total(weights: &Tensor) -> Tensor {
    weights.sum_dim_intlist([-1i64].as_slice(), true, Kind::Float)
}

/// `[rows, experts]`, with experts outside the `top_groups` best groups at minus infinity. A group is rated by the
/// sum of its two best experts.
fn within_best_groups(rated: Tensor, groups: i64, top_groups: i64) -> Tensor {
    if top_groups >= groups {
        return rated;
    }
    let grouped = rated.unflatten(-1, [groups, -1]);
    let (best, _) = grouped.topk(2, -1, true, true);
    let (_, chosen) =
        best.sum_dim_intlist([-1i64].as_slice(), false, Kind::Float).topk(top_groups, -1, true, true);
    let outside =
        Tensor::ones([rated.size()[0], groups], (Kind::Bool, rated.device())).scatter_value(-1, &chosen, 0);
    grouped.masked_fill(&outside.unsqueeze(-1), f64::NEG_INFINITY).flatten(-2, -1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    fn router(routing: Routing, correction: Option<&[f32]>) -> Router {
        let config =
            SparseConfig { experts: 4, top_k: 2, intermediate: 1, shared_intermediate: None, routing };
        Router {
            weight: Tensor::eye(4, (Kind::Float, Device::Cpu)),
            correction: correction.map(Tensor::from_slice),
            config,
        }
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        Vec::try_from(tensor.to_kind(Kind::Float).flatten(0, -1)).expect("numbers")
    }

    #[test]
    fn softmax_weights_of_the_chosen_sum_to_one() {
        let input = Tensor::from_slice(&[0f32, 1.0, 3.0, 2.0]).unsqueeze(0);
        let choice = router(Routing::Softmax { renormalize: true }, None).choose(&input);
        assert_eq!(values(&choice.experts), [2.0, 3.0]);
        let weights = values(&choice.weights);
        assert!(
            (weights[0] - 1.0 / (1.0 + (-1f32).exp())).abs() < 1e-6
                && (weights[0] + weights[1] - 1.0).abs() < 1e-6
        );
    }

    #[test]
    fn the_correction_affects_selection_but_not_weights() {
        let input = Tensor::from_slice(&[0f32, 0.0, 0.0, 0.0]).unsqueeze(0);
        let routing = Routing::Sigmoid { renormalize: false, groups: 1, top_groups: 1, scale: 3.0 };
        let choice = router(routing, Some(&[0.0, 2.0, 0.0, 1.0])).choose(&input);
        assert_eq!(values(&choice.experts), [1.0, 3.0]);
        assert_eq!(values(&choice.weights), [1.5, 1.5]);
    }

    #[test]
    fn experts_are_selected_from_the_best_groups_only() {
        // The best single expert is in the worse group.
        let input = Tensor::from_slice(&[5f32, -9.0, 2.0, 2.0]).unsqueeze(0);
        let routing = Routing::Sigmoid { renormalize: true, groups: 2, top_groups: 1, scale: 1.0 };
        let choice = router(routing, Some(&[0.0; 4])).choose(&input);
        let mut experts = values(&choice.experts);
        experts.sort_by(f32::total_cmp);
        assert_eq!(experts, [2.0, 3.0]);
    }
}
