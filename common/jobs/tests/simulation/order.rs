//! The order's published bounds, under seeded floods.

use std::collections::HashMap;

use rand::{Rng, SeedableRng, rngs::StdRng};
use videosdgx_api::Priority;
use videosdgx_jobs::{Principal, state::order::FairOrder};

const STEP: i64 = 60_000;

fn priority(value: u8) -> Priority {
    Priority::new(value).expect("0 to 9")
}

/// However much is submitted at any priority by others, a job that is first in its line is passed by at most one job of each
/// other principal once `(9 - p) * STEP` have gone by since its turn began.
#[test]
fn no_job_waits_beyond_the_ageing_bound() {
    for seed in 0..64 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut order = FairOrder::new(STEP);
        let others: Vec<Principal> = (0..10).map(|n| Principal::new(format!("flood-{n}"))).collect();
        let patient = Principal::new("patient");
        let p = rng.random_range(0..10);
        let bound = i64::from(9 - p) * STEP;
        let (mut now, mut number) = (rng.random_range(0..1_000_000), 1);
        let begun = now;
        order.insert(&patient, 1, now, priority(p));
        let mut passed: HashMap<Principal, u32> = HashMap::new();
        let mut owners = HashMap::from([(1, patient.clone())]);
        loop {
            now += rng.random_range(0..8_000);
            for other in &others {
                if rng.random_ratio(1, 2) {
                    number += 1;
                    let urgent = if rng.random_ratio(9, 10) { 9 } else { rng.random_range(0..10) };
                    order.insert(other, number, now, priority(urgent));
                    owners.insert(number, other.clone());
                }
            }
            let Some(taken) = order.pop(now) else { continue };
            if taken == 1 {
                break;
            }
            if now > begun + bound {
                let owner = owners[&taken].clone();
                let times = passed.entry(owner).or_default();
                *times += 1;
                assert!(*times <= 1, "seed {seed}: passed {times} times after the bound");
            }
        }
    }
}

/// At equal priority a principal that submits one job at a time waits for one job of each other principal at most, however
/// many those have waiting.
#[test]
fn a_modest_principal_waits_for_one_job_of_each_other() {
    for seed in 0..64 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut order = FairOrder::new(STEP);
        let greedy: Vec<Principal> =
            (0..rng.random_range(1..6)).map(|n| Principal::new(format!("g{n}"))).collect();
        let modest = Principal::new("modest");
        let (mut now, mut number) = (0, 0);
        let mut owners = HashMap::new();
        for _ in 0..50 {
            for principal in &greedy {
                for _ in 0..rng.random_range(2..30) {
                    number += 1;
                    order.insert(principal, number, now, priority(5));
                    owners.insert(number, principal.clone());
                }
            }
            for _ in 0..rng.random_range(0..4) {
                now += rng.random_range(1..20_000);
                order.pop(now);
            }
            now += rng.random_range(0..5);
            number += 1;
            order.insert(&modest, number, now, priority(5));
            let mut passed: HashMap<Principal, u32> = HashMap::new();
            loop {
                now += rng.random_range(1..20_000);
                let taken = order.pop(now).expect("a job waits");
                if taken == number {
                    break;
                }
                let times = passed.entry(owners[&taken].clone()).or_default();
                *times += 1;
                assert!(*times <= 1, "seed {seed}: passed {times} times by one principal");
            }
        }
    }
}

/// In one's own line a flood of urgent jobs delays an old one by the ageing bound, not longer.
#[test]
fn ageing_holds_within_a_line() {
    for p in 0..9 {
        let mut order = FairOrder::new(STEP);
        let owner = Principal::new("one");
        order.insert(&owner, 1, 0, priority(p));
        let bound = i64::from(9 - p) * STEP;
        for number in 2..1_000_u64 {
            order.insert(&owner, number, i64::try_from(number).unwrap() * 1_000, priority(9));
        }
        let before = std::iter::from_fn(|| order.pop(0)).take_while(|number| *number != 1).count() as i64;
        assert_eq!(before, bound / 1_000 - 2, "priority {p}");
    }
}

/// The estimate of a place is exact when there is one principal, and one turn of each other when there are several.
#[test]
fn places_are_exact_in_ones_own_line() {
    let mut order = FairOrder::new(STEP);
    let (one, two) = (Principal::new("one"), Principal::new("two"));
    for number in 0..50 {
        order.insert(&one, number, 100, priority(5));
    }
    assert_eq!(order.ahead(&one, 30, 100, priority(5), 1_000), 30);
    order.insert(&two, 50, 200, priority(5));
    assert_eq!(order.ahead(&two, 50, 200, priority(5), 1_000), 1);
    assert_eq!(order.pop(300), Some(0));
    assert_eq!(order.pop(301), Some(50));
    assert_eq!(order.len(), 49);
    assert!(order.remove(&one, 7, 100, priority(5)) && !order.remove(&one, 7, 100, priority(5)));
    assert!(!order.is_empty());
}
