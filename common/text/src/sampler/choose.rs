//! Sampling of one token from a row of logits.

use std::cmp::Ordering;

use super::weights::{Weights, bound_of_top, largest};
use crate::SamplingParams;
use crate::engine::TokenMask;

/// Below this temperature the most likely token is selected: the distribution is concentrated on it anyway.
const GREEDY: f32 = 1e-5;
/// Number of candidates that top-p sorts first.
const FIRST_SORT: usize = 128;

/// A token that may be sampled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) id: u32,
    pub(super) logit: f32,
    /// Probability relative to that of the most likely token.
    pub(super) weight: f32,
}

impl Candidate {
    /// Order by descending logit, then by ascending id, so that the order is unique.
    pub(super) fn by_likelihood(a: &Self, b: &Self) -> Ordering {
        b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
    }
}

/// Sets the logits of ids that are not in the mask to negative infinity.
pub(super) fn apply_mask(row: &mut [f32], mask: &TokenMask) {
    let words = mask.words();
    for (index, values) in row.chunks_mut(32).enumerate() {
        match words.get(index).copied().unwrap_or(0) {
            u32::MAX => {}
            0 => values.fill(f32::NEG_INFINITY),
            word => {
                for (bit, value) in values.iter_mut().enumerate() {
                    if word >> bit & 1 == 0 {
                        *value = f32::NEG_INFINITY;
                    }
                }
            }
        }
    }
}

/// Buffers that are reused from one token to the next.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    weights: Weights,
    candidates: Vec<Candidate>,
    maxima: Vec<f32>,
}

/// The most likely id, the lowest among equals; `None` when all values are negative infinity.
fn greedy(row: &[f32]) -> Option<u32> {
    let max = largest(row);
    let at = row.iter().position(|value| *value == max)?;
    (max > f32::NEG_INFINITY).then_some(at as u32)
}

/// Samples an id. `draw` returns a random number in [0, 1) and is called at most once. The row must not contain NaN.
pub(super) fn choose(
    row: &[f32],
    params: &SamplingParams,
    draw: impl FnOnce() -> f64,
    scratch: &mut Scratch,
) -> Option<u32> {
    let most_likely = greedy(row)?;
    let max = row[most_likely as usize];
    if params.temperature < GREEDY || params.top_k == 1 || max == f32::INFINITY {
        return Some(most_likely);
    }
    let scale = 1.0 / params.temperature;
    let Scratch { weights, candidates, maxima } = scratch;
    let k = params.top_k as usize;
    let whole = k == 0 || k >= row.len();
    if whole {
        weights.fill(row, max, scale);
        if params.top_p >= 1.0 && params.min_p <= 0.0 {
            return weights.draw(draw());
        }
    }
    candidates.clear();
    if whole {
        // Tokens whose weight is below `(1 - top_p) · total / vocab` cannot be part of the top-p set: all of them together are
        // less than what top-p cuts off.
        let cut = f64::from(1.0 - params.top_p).max(0.0) * weights.total() / row.len() as f64;
        let least = (cut as f32).max(params.min_p * (1.0 - 1e-6)).max(f32::MIN_POSITIVE);
        let likely = weights.values().iter().zip(0..).filter(|(weight, _)| **weight >= least);
        candidates.extend(likely.map(|(weight, id)| Candidate {
            id,
            logit: row[id as usize],
            weight: *weight,
        }));
    } else {
        let bound = bound_of_top(row, k, maxima);
        let likely = row.iter().zip(0..).filter(|(logit, _)| **logit >= bound && **logit > f32::NEG_INFINITY);
        candidates.extend(likely.map(|(logit, id)| Candidate { id, logit: *logit, weight: 0.0 }));
        if k < candidates.len() {
            candidates.select_nth_unstable_by(k - 1, Candidate::by_likelihood);
            candidates.truncate(k);
        }
        for candidate in candidates.iter_mut() {
            candidate.weight = ((candidate.logit - max) * scale).exp();
        }
    }
    if params.top_p < 1.0 {
        let total = if whole { weights.total() } else { sum(candidates) };
        keep_top_p(candidates, f64::from(params.top_p) * total);
    }
    if params.min_p > 0.0 {
        candidates.retain(|candidate| candidate.weight >= params.min_p * (1.0 - 1e-6));
    }
    // Sorted by id, so that the result does not depend on the order of the selection.
    candidates.sort_unstable_by_key(|candidate| candidate.id);
    let target = draw() * sum(candidates);
    let mut passed = 0.0;
    let drawn = candidates.iter().find(|candidate| {
        passed += f64::from(candidate.weight);
        passed > target
    });
    // Rounding may leave the sum slightly below the target.
    drawn.or(candidates.last()).map(|candidate| candidate.id)
}

/// Keeps the smallest set of the most likely candidates whose weights reach `target`, at least one. Sorts no more than needed.
fn keep_top_p(candidates: &mut Vec<Candidate>, target: f64) {
    let (mut sorted, mut next, mut sum) = (0, FIRST_SORT, 0.0);
    while sorted < candidates.len() {
        let rest = &mut candidates[sorted..];
        let take = next.min(rest.len());
        if take < rest.len() {
            rest.select_nth_unstable_by(take - 1, Candidate::by_likelihood);
        }
        rest[..take].sort_unstable_by(Candidate::by_likelihood);
        for index in sorted..sorted + take {
            sum += f64::from(candidates[index].weight);
            if sum >= target {
                candidates.truncate(index + 1);
                return;
            }
        }
        sorted += take;
        next *= 4;
    }
}

fn sum(candidates: &[Candidate]) -> f64 {
    candidates.iter().map(|candidate| f64::from(candidate.weight)).sum()
}
