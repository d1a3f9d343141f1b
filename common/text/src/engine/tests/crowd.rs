//! Load test: a thousand callers that cancel, drop their streams, read slowly and share prefixes.

#![expect(clippy::disallowed_methods, reason = "tests read variables of their own")]

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::executor::block_on;
use futures::stream::FuturesUnordered;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use videosdgx_model::process_resident_bytes;

use crate::testing::{Rig, Script, config, request, sampled};
use crate::{EngineSnapshot, FinishReason, KvCacheSize, StreamEvent, SubmitError};

/// One caller; returns how its stream ended, unless it dropped the stream.
async fn caller(rig: &Rig, number: u32, mut random: StdRng) -> Option<FinishReason> {
    let prompt = random.random_range(5..120);
    let mut wanted =
        sampled(request(&number.to_string(), number % 5, prompt, random.random_range(1..40)), number.into());
    wanted.priority = random.random_range(0..10);
    wanted.principal = format!("p{}", number % 7);
    if random.random_bool(0.05) {
        wanted.deadline = Some(Duration::from_millis(random.random_range(1..50)));
    }
    let mut stream = loop {
        match rig.engine.submit(wanted.clone()) {
            Ok(stream) => break stream,
            Err(SubmitError::QueueFull { .. }) => {
                rig.engine.wait_for_queue_space(&wanted.principal).await;
            }
            Err(other) => panic!("{other}"),
        }
    };
    let leaves = random.random_bool(0.15).then(|| random.random_range(0..20));
    let cancels = random.random_bool(0.15).then(|| random.random_range(0..20));
    let mut tokens = 0;
    while let Some(event) = stream.next().await {
        match event {
            StreamEvent::Completed(end) => return Some(end.reason),
            StreamEvent::Token(_) => tokens += 1,
            StreamEvent::Error(_) => {}
        }
        if leaves == Some(tokens) {
            return None;
        }
        if cancels == Some(tokens) {
            rig.engine.cancel(stream.id());
        }
    }
    panic!("the stream ended without a last event");
}

fn crowd(rig: &Rig, numbers: std::ops::Range<u32>, seed: u64) -> [usize; 5] {
    let callers: FuturesUnordered<_> =
        numbers.map(|number| caller(rig, number, StdRng::seed_from_u64(seed ^ u64::from(number)))).collect();
    let mut ends = [0; 5];
    for end in block_on(callers.collect::<Vec<_>>()) {
        let at = match end {
            None => 0,
            Some(FinishReason::Cancelled) => 1,
            Some(FinishReason::Deadline) => 2,
            Some(FinishReason::Stop | FinishReason::Length) => 3,
            Some(FinishReason::Error) => 4,
        };
        ends[at] += 1;
    }
    ends
}

#[test]
fn a_thousand_callers_all_end_and_release_everything() {
    let seed = 20_261_122;
    eprintln!("seed {seed}");
    let begun = Instant::now();
    let mut config = config();
    config.queue_capacity = 64;
    // Too few for eight of the larger sequences, so that some are preempted.
    config.kv_cache = KvCacheSize::Bytes(40 << 10);
    let fail_steps = (0..200).map(|number| number * 97).collect();
    let rig = Rig::new(Script { fail_steps, ..Script::default() }, config);
    let first = crowd(&rig, 0..300, seed);
    rig.wait_until_idle();
    let memory = process_resident_bytes();
    let second = crowd(&rig, 300..1000, seed);
    rig.wait_until_idle();
    let ends: Vec<usize> = first.iter().zip(second).map(|(a, b)| a + b).collect();
    eprintln!("left, cancelled, late, whole, failed: {ends:?} in {:?}", begun.elapsed());
    assert_eq!(ends.iter().sum::<usize>(), 1000);
    assert!(ends[3] > 500 && ends[0] > 50 && ends[1] > 20, "{ends:?}");
    assert_eq!(ends[4], 0, "a step that fails once fails nobody");
    let EngineSnapshot { running, waiting, paused, cache, preemptions, .. } = rig.engine.snapshot();
    assert_eq!((running, waiting, paused, cache.used), (0, 0, 0, 0));
    assert!(preemptions > 0);
    assert_eq!(rig.telemetry.totals().sessions, 1000);
    // 700 more callers than at the first measurement; the history is bounded. Only valid if no other test runs in this process.
    let grown = process_resident_bytes().saturating_sub(memory);
    assert!(std::env::var_os("NEXTEST").is_none() || grown < 8 << 20, "memory grew by {grown} bytes");
}
