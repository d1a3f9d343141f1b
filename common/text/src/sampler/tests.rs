//! Comparison with simple reference implementations, and statistical tests.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;

/// Probabilities after temperature, top-k, top-p and min-p, by sorting everything.
fn reference(row: &[f32], params: &SamplingParams) -> Vec<f64> {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|a, b| row[*b].total_cmp(&row[*a]).then(a.cmp(b)));
    let weight = |id: usize| f64::from(((row[id] - max) / params.temperature).exp());
    if params.top_k > 0 {
        order.truncate(params.top_k as usize);
    }
    if params.top_p < 1.0 {
        let total: f64 = order.iter().map(|id| weight(*id)).sum();
        let mut sum = 0.0;
        let keep = order.iter().position(|id| {
            sum += weight(*id);
            sum >= f64::from(params.top_p) * total
        });
        order.truncate(keep.map_or(order.len(), |last| last + 1));
    }
    order.retain(|id| weight(*id) >= f64::from(params.min_p) * (1.0 - 1e-6));
    let total: f64 = order.iter().map(|id| weight(*id)).sum();
    let mut probabilities = vec![0.0; row.len()];
    for id in order {
        probabilities[id] = weight(id) / total;
    }
    probabilities
}

fn row(random: &mut StdRng, vocab: usize) -> Vec<f32> {
    (0..vocab).map(|_| random.random_range(-8.0..8.0_f32)).collect()
}

fn plain(params: SamplingParams, vocab: usize) -> Sampler {
    Sampler::new(params, 1, vocab, None, &[])
}

#[test]
fn filters_keep_what_the_reference_keeps_in_its_proportions() {
    let mut random = StdRng::seed_from_u64(7);
    let temperature = |t| SamplingParams { temperature: t, ..SamplingParams::default() };
    for params in [
        temperature(1.0),
        temperature(0.3),
        SamplingParams { top_k: 5, ..temperature(1.5) },
        SamplingParams { top_p: 0.8, ..temperature(1.0) },
        SamplingParams { top_p: 0.999, ..temperature(2.0) },
        SamplingParams { min_p: 0.2, ..temperature(1.2) },
        SamplingParams { top_k: 20, top_p: 0.9, min_p: 0.05, ..temperature(1.3) },
    ] {
        for vocab in [3, 40, 300] {
            let logits = row(&mut random, vocab);
            let wanted = reference(&logits, &params);
            let draws = 3_000_u32;
            let mut found = vec![0.0; vocab];
            for draw in 0..draws {
                let at = (f64::from(draw) + 0.5) / f64::from(draws);
                let id = choose::choose(&logits, &params, || at, &mut choose::Scratch::default()).unwrap();
                found[id as usize] += 1.0 / f64::from(draws);
            }
            for (id, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
                assert!(*wanted > 0.0 || *found == 0.0, "{params:?}: {id} was cut off and chosen");
                assert!((found - wanted).abs() < 2.0 / f64::from(draws), "{params:?} {id}: {found} {wanted}");
            }
        }
    }
}

#[test]
fn draws_of_many_seeds_and_positions_follow_the_distribution() {
    let logits = [1.0_f32, 0.0, -1.0, 2.0, 0.5];
    let wanted = reference(&logits, &SamplingParams::default());
    let mut counts = [0.0; 5];
    for seed in 0..200 {
        for position in 0..100 {
            let draw = || uniform(seed, position);
            let id =
                choose::choose(&logits, &SamplingParams::default(), draw, &mut choose::Scratch::default())
                    .unwrap();
            counts[id as usize] += 1.0;
        }
    }
    // Chi square with 4 degrees of freedom: exceeds 18.5 once in a thousand.
    let chi: f64 = counts
        .iter()
        .zip(&wanted)
        .map(|(found, p)| (found - p * 20_000.0_f64).powi(2) / (p * 20_000.0))
        .sum();
    assert!(chi < 18.5, "{chi}");
}

#[test]
fn neighbouring_seeds_and_positions_are_independent() {
    let correlation = |next: fn(u64, u64) -> f64| {
        let pairs =
            (0..20_000_u64).map(|n| (uniform(n / 100, n % 100) - 0.5) * (next(n / 100, n % 100) - 0.5));
        pairs.sum::<f64>() / 20_000.0 * 12.0
    };
    assert!(correlation(|seed, position| uniform(seed + 1, position)).abs() < 0.03);
    assert!(correlation(|seed, position| uniform(seed, position + 1)).abs() < 0.03);
    assert!(correlation(|seed, position| uniform(position, seed)).abs() < 0.03);
}

#[test]
fn the_choice_depends_on_seed_and_position_only() {
    let mut random = StdRng::seed_from_u64(3);
    let logits = row(&mut random, 1000);
    let params = SamplingParams { top_p: 0.95, ..SamplingParams::default() };
    let run = |seed| -> Vec<u32> {
        let mut sampler = Sampler::new(params.clone(), seed, 1000, None, &[]);
        (0..20).map(|position| sampler.sample(&mut logits.clone(), position, None).unwrap().id).collect()
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
    // A retried step, after other tokens were drawn.
    let mut sampler = Sampler::new(params.clone(), 5, 1000, None, &[]);
    sampler.sample(&mut logits.clone(), 3, None).unwrap();
    assert_eq!(sampler.sample(&mut logits.clone(), 3, None).unwrap().id, run(5)[3]);
}

#[test]
fn greedy_takes_the_lowest_of_the_likeliest_and_never_padding() {
    let params = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
    assert_eq!(plain(params.clone(), 3).sample(&mut [0.0, 2.0, 2.0, 9.0], 0, None).unwrap().id, 1);
    let mut hot = plain(SamplingParams { temperature: 2.0, ..SamplingParams::default() }, 2);
    assert!((0..200).all(|position| hot.sample(&mut [0.0, 0.0, 9.0], position, None).unwrap().id < 2));
}

#[test]
fn a_row_with_a_value_that_is_not_finite_is_refused() {
    for temperature in [0.0, 1.0] {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let params = SamplingParams { temperature, ..SamplingParams::default() };
            let mut sampler = plain(params, 3);
            assert_eq!(sampler.sample(&mut [0.0, bad, 1.0], 0, None), Err(SampleError::NotFinite), "{bad}");
            assert!(sampler.sample(&mut [0.0, 2.0, 1.0, bad], 0, None).is_ok(), "padding is not looked at");
        }
    }
}

#[test]
fn a_mask_leaves_only_what_it_allows() {
    let mut random = StdRng::seed_from_u64(11);
    let mut mask = TokenMask::new(100);
    for id in [3, 31, 32, 77, 99, 100] {
        mask.allow(id);
    }
    let mut sampler = plain(SamplingParams { temperature: 5.0, ..SamplingParams::default() }, 100);
    let mut seen = std::collections::BTreeSet::new();
    for position in 0..500 {
        seen.insert(sampler.sample(&mut row(&mut random, 128), position, Some(&mask)).unwrap().id);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [3, 31, 32, 77, 99]);
    let nothing = sampler.sample(&mut [0.0; 128], 0, Some(&TokenMask::new(100)));
    assert_eq!(nothing, Err(SampleError::NothingAllowed));
}

#[test]
fn penalties_and_bias_by_hand() {
    let params = SamplingParams {
        temperature: 0.0,
        repetition_penalty: 2.0,
        presence_penalty: 0.5,
        frequency_penalty: 0.25,
        logit_bias: BTreeMap::from([(3, 1.0), (900, 1.0)]),
        ..SamplingParams::default()
    };
    let mut sampler = Sampler::new(params, 0, 5, None, &[0, 1]);
    let mut logits = [4.0, -1.0, 3.0, 0.5, 0.0];
    // Bias first: 3 → 1.5. Prompt tokens: 4 → 2, -1 → -2. Chosen: 2.
    assert_eq!(sampler.sample(&mut logits, 0, None).unwrap().id, 2);
    assert_eq!(logits, [2.0, -2.0, 3.0, 1.5, 0.0]);
    let mut logits = [4.0, -1.0, 4.0, 0.5, 0.0];
    // Token 2 was in the output once: 4 / 2 - 0.25 - 0.5.
    assert_eq!(sampler.sample(&mut logits, 1, None).unwrap().id, 0);
    assert_eq!(logits, [2.0, -2.0, 1.25, 1.5, 0.0]);
    let mut logits = [4.0, 0.0, 4.0, 0.0, 0.0];
    sampler.sample(&mut logits, 2, None).unwrap();
    assert_eq!(logits[0], 1.25);
}

#[test]
fn logprobs_are_those_of_the_model_before_anything_else() {
    let params = SamplingParams {
        temperature: 0.5,
        top_k: 1,
        logit_bias: BTreeMap::from([(0, 100.0)]),
        ..SamplingParams::default()
    };
    let logits = [1.0_f32, 3.0, 2.0, -50.0];
    let mut sampler = Sampler::new(params, 0, 4, Some(2), &[]);
    let sampled = sampler.sample(&mut logits.clone(), 0, None).unwrap();
    assert_eq!(sampled.id, 0);
    let sum: f64 = logits.iter().map(|value| f64::from(*value).exp()).sum();
    let wanted = |id: usize| (f64::from(logits[id]) - sum.ln()) as f32;
    let logprobs = sampled.logprobs.unwrap();
    assert!((logprobs.chosen.1 - wanted(0)).abs() < 1e-6);
    assert_eq!(logprobs.top.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 2]);
    assert!((logprobs.top[1].1 - wanted(2)).abs() < 1e-6);
    let large =
        Sampler::new(SamplingParams::default(), 0, 3, Some(0), &[]).sample(&mut [1e4, 1e4, 0.0], 0, None);
    let logprobs = large.unwrap().logprobs.unwrap();
    assert!((logprobs.chosen.1 - (0.5_f32).ln()).abs() < 1e-3 && logprobs.top.is_empty());
}

#[test]
fn a_large_vocabulary_is_sampled_quickly() {
    let mut random = StdRng::seed_from_u64(5);
    let logits = row(&mut random, 151_936);
    let begun = std::time::Instant::now();
    for params in [
        SamplingParams { temperature: 0.0, ..SamplingParams::default() },
        SamplingParams { top_p: 0.9, ..SamplingParams::default() },
        SamplingParams { top_k: 20, top_p: 0.8, ..SamplingParams::default() },
    ] {
        plain(params, 151_936).sample(&mut logits.clone(), 0, None).unwrap();
    }
    // Even without optimisation; a full sort of three rows takes several times as long.
    assert!(begun.elapsed() < std::time::Duration::from_secs(2), "{:?}", begun.elapsed());
}
