//! One token out of a row.

use std::cmp::Ordering;

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

/// The likeliest id; the lowest among equals. `None` when there is no finite value.
fn greedy(row: &[f32]) -> Option<u32> {
    let (mut best, mut at) = (f32::NEG_INFINITY, None);
    for (value, id) in row.iter().zip(0..) {
        if *value > best {
            (best, at) = (*value, Some(id));
        }
    }
    at
}

/// Chooses an id; `draw` gives a number in [0, 1) and is asked at most once. `candidates` is room to work in.
pub(super) fn choose(
    row: &[f32],
    params: &SamplingParams,
    draw: impl FnOnce() -> f64,
    candidates: &mut Vec<Candidate>,
) -> Option<u32> {
    let likeliest = greedy(row)?;
    if params.temperature < GREEDY || params.top_k == 1 {
        return Some(likeliest);
    }
    let max = row[likeliest as usize];
    if max == f32::INFINITY {
        return Some(likeliest);
    }
    let scale = 1.0 / params.temperature;
    let weight = |logit: f32| f64::from(((logit - max) * scale).exp());
    let all = params.top_k == 0 && params.top_p >= 1.0;
    if all && params.min_p <= 0.0 {
        return draw_from(row.iter().copied().zip(0..), weight, draw());
    }
    // Min-p is a bound on logits, so it can be applied first wherever top-p does not ask for the sum of all.
    let least = if params.min_p > 0.0 { max + params.temperature * params.min_p.ln() } else { f32::NEG_INFINITY };
    let floor = if params.top_p >= 1.0 { least } else { f32::NEG_INFINITY };
    candidates.clear();
    let finite = row.iter().zip(0..).filter(|(logit, _)| **logit > f32::NEG_INFINITY && **logit >= floor);
    candidates.extend(finite.map(|(logit, id)| Candidate { id, logit: *logit }));
    let k = params.top_k as usize;
    if k > 0 && k < candidates.len() {
        candidates.select_nth_unstable_by(k - 1, Candidate::likelier);
        candidates.truncate(k);
    }
    if params.top_p < 1.0 {
        keep_top_p(candidates, f64::from(params.top_p), weight);
    }
    if params.min_p > 0.0 {
        candidates.retain(|candidate| candidate.logit >= least);
    }
    // By id: which of them is drawn must not depend on how they were selected.
    candidates.sort_unstable_by_key(|candidate| candidate.id);
    draw_from(candidates.iter().map(|candidate| (candidate.logit, candidate.id)), weight, draw())
}

/// Keeps the fewest of the likeliest that together reach `top_p` of the candidates' probability, at least one. Sorts no more of
/// them than needed.
fn keep_top_p(candidates: &mut Vec<Candidate>, top_p: f64, weight: impl Fn(f32) -> f64) {
    let total: f64 = candidates.iter().map(|candidate| weight(candidate.logit)).sum();
    let wanted = top_p * total;
    let (mut sorted, mut look, mut sum) = (0, FIRST_LOOK, 0.0);
    while sorted < candidates.len() {
        let rest = &mut candidates[sorted..];
        let take = look.min(rest.len());
        if take < rest.len() {
            rest.select_nth_unstable_by(take - 1, Candidate::likelier);
        }
        rest[..take].sort_unstable_by(Candidate::likelier);
        for index in sorted..sorted + take {
            sum += weight(candidates[index].logit);
            if sum >= wanted {
                candidates.truncate(index + 1);
                return;
            }
        }
        sorted += take;
        look *= 4;
    }
}

/// The id at which the running sum of weights passes `at` (in [0, 1)) of their total.
fn draw_from(
    candidates: impl Iterator<Item = (f32, u32)> + Clone,
    weight: impl Fn(f32) -> f64,
    at: f64,
) -> Option<u32> {
    let total: f64 = candidates.clone().map(|(logit, _)| weight(logit)).sum();
    let target = at * total;
    let (mut sum, mut last) = (0.0, None);
    for (logit, id) in candidates {
        let one = weight(logit);
        if one > 0.0 {
            sum += one;
            last = Some(id);
            if sum > target {
                return last;
            }
        }
    }
    // Rounding may leave the sum a hair short.
    last
}
