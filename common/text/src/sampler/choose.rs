//! One token out of a row.

use std::cmp::Ordering;

use super::weights::{Weights, bound_of_top, largest};
use crate::SamplingParams;
use crate::engine::TokenMask;

/// Below this temperature the likeliest token is taken: the distribution is one token anyhow.
const GREEDY: f32 = 1e-5;
/// Tokens that first are looked at for top-p.
const FIRST_LOOK: usize = 128;

/// A token that may be chosen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) id: u32,
    pub(super) logit: f32,
    /// In proportion to its probability; 1 for the likeliest.
    pub(super) weight: f32,
}

impl Candidate {
    /// Likelier first; the lower id among equals, so that the order is one and the same everywhere.
    pub(super) fn likelier(a: &Self, b: &Self) -> Ordering {
        b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
    }
}

/// Ids that are not in the mask cannot be chosen.
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

/// Room to work in, kept from one choice to the next.
#[derive(Debug, Default)]
pub(super) struct Room {
    weights: Weights,
    candidates: Vec<Candidate>,
    maxima: Vec<f32>,
}

/// The likeliest id; the lowest among equals. `None` when there is no finite value.
fn greedy(row: &[f32]) -> Option<u32> {
    let max = largest(row);
    let at = row.iter().position(|value| *value == max)?;
    (max > f32::NEG_INFINITY).then_some(at as u32)
}

/// Chooses an id; `draw` gives a number in [0, 1) and is asked at most once. No value of the row is NaN.
pub(super) fn choose(
    row: &[f32],
    params: &SamplingParams,
    draw: impl FnOnce() -> f64,
    room: &mut Room,
) -> Option<u32> {
    let likeliest = greedy(row)?;
    let max = row[likeliest as usize];
    if params.temperature < GREEDY || params.top_k == 1 || max == f32::INFINITY {
        return Some(likeliest);
    }
    let scale = 1.0 / params.temperature;
    let Room { weights, candidates, maxima } = room;
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
        // What is less likely than a token's even share of what top-p cuts off is cut off, since all of those together are
        // less than that.
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
            candidates.select_nth_unstable_by(k - 1, Candidate::likelier);
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
    // By id: which of them is drawn must not depend on how they were selected.
    candidates.sort_unstable_by_key(|candidate| candidate.id);
    let target = draw() * sum(candidates);
    let mut passed = 0.0;
    let drawn = candidates.iter().find(|candidate| {
        passed += f64::from(candidate.weight);
        passed > target
    });
    // Rounding may leave the sum a hair short.
    drawn.or(candidates.last()).map(|candidate| candidate.id)
}

/// Keeps the fewest of the likeliest that together reach `wanted`, at least one. Sorts no more of them than needed.
fn keep_top_p(candidates: &mut Vec<Candidate>, wanted: f64) {
    let (mut sorted, mut look, mut sum) = (0, FIRST_LOOK, 0.0);
    while sorted < candidates.len() {
        let rest = &mut candidates[sorted..];
        let take = look.min(rest.len());
        if take < rest.len() {
            rest.select_nth_unstable_by(take - 1, Candidate::likelier);
        }
        rest[..take].sort_unstable_by(Candidate::likelier);
        for index in sorted..sorted + take {
            sum += f64::from(candidates[index].weight);
            if sum >= wanted {
                candidates.truncate(index + 1);
                return;
            }
        }
        sorted += take;
        look *= 4;
    }
}

fn sum(candidates: &[Candidate]) -> f64 {
    candidates.iter().map(|candidate| f64::from(candidate.weight)).sum()
}
