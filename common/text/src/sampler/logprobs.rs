//! Log-probabilities of a row.

use super::choose::Candidate;
use super::weights::{Weights, bound_of_top, largest};

/// Log-probabilities of the sampled token and of the most likely ones, in descending order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RowLogprobs {
    pub(crate) chosen: (u32, f32),
    pub(crate) top: Vec<(u32, f32)>,
}

/// Logarithm of a row's softmax denominator, and its most likely tokens.
pub(super) struct RowStatistics {
    log_sum: f64,
    top: Vec<(u32, f32)>,
}

impl RowStatistics {
    /// Computes them for a row with at least one finite value and no NaN: log-softmax relative to the maximum, summed in f64.
    pub(super) fn of(row: &[f32], top: usize) -> Self {
        let max = largest(row);
        let mut weights = Weights::default();
        weights.fill(row, max, 1.0);
        let log_sum = f64::from(max) + weights.total().ln();
        let top = top.min(row.len());
        let mut candidates: Vec<Candidate> = Vec::new();
        if top > 0 {
            let bound = bound_of_top(row, top, &mut Vec::new());
            let likely = row.iter().zip(0..).filter(|(logit, _)| **logit >= bound);
            candidates.extend(likely.map(|(logit, id)| Candidate { id, logit: *logit, weight: 0.0 }));
            candidates.select_nth_unstable_by(top - 1, Candidate::by_likelihood);
            candidates.truncate(top);
            candidates.sort_unstable_by(Candidate::by_likelihood);
        }
        let top = candidates.into_iter().map(|one| (one.id, logprob(one.logit, log_sum))).collect();
        Self { log_sum, top }
    }

    pub(super) fn with_chosen(self, id: u32, logit: f32) -> RowLogprobs {
        RowLogprobs { chosen: (id, logprob(logit, self.log_sum)), top: self.top }
    }
}

fn logprob(logit: f32, log_sum: f64) -> f32 {
    (f64::from(logit) - log_sum) as f32
}
