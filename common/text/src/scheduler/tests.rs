//! Tests of individual rules.

use std::time::Duration;

use super::*;
use videosdgx_decoder_api::BLOCK_TOKENS;

const SECOND: Duration = Duration::from_secs(1);

fn scheduler(blocks: usize) -> Scheduler {
    let mut scheduler = Scheduler::new(SchedulerConfig {
        queue_capacity: 64,
        ageing: 2 * SECOND,
        slow_reader_limit: 30 * SECOND,
    });
    scheduler.reset_cache(blocks, 4096);
    scheduler
}

fn limits(max_running: usize) -> StepLimits {
    StepLimits {
        max_running,
        prompt_only_budget: 512,
        mixed_budget: 32,
        short_mixed_budget: 32,
        short_prompt: 0,
        pause_admission: false,
    }
}

/// A prompt that shares no block with one of another `kind`.
fn spec(kind: u32, tokens: usize, max_tokens: usize) -> SequenceSpec {
    SequenceSpec { tokens: vec![kind; tokens], max_tokens, priority: 5, ..SequenceSpec::default() }
}

fn of(kind: u32, priority: u8, principal: &str) -> SequenceSpec {
    SequenceSpec { priority, principal: principal.to_owned(), ..spec(kind, 20, 1000) }
}

/// Plans and completes a step; returns its sequences with their numbers of tokens.
fn step(scheduler: &mut Scheduler, now: Duration, limits: StepLimits) -> Vec<(SeqId, usize)> {
    let plan = scheduler.plan(now, limits);
    let done: Vec<SegmentDone> = plan
        .segments
        .iter()
        .map(|segment| SegmentDone {
            seq: segment.seq,
            computed: segment.start + segment.tokens.len(),
            token: segment.samples.then_some(7),
            ends: segment.last,
        })
        .collect();
    scheduler.step_done(now, &done);
    plan.segments.iter().map(|segment| (segment.seq, segment.tokens.len())).collect()
}

#[test]
fn prompts_come_in_chunks_beside_decoded_sequences() {
    let mut scheduler = scheduler(1000);
    let first = scheduler.submit(Duration::ZERO, spec(1, 600, 50)).unwrap();
    assert_eq!(step(&mut scheduler, Duration::ZERO, limits(8)), [(first, 512)]);
    assert_eq!(step(&mut scheduler, Duration::ZERO, limits(8)), [(first, 88)]);
    let second = scheduler.submit(Duration::ZERO, spec(2, 70, 50)).unwrap();
    assert_eq!(step(&mut scheduler, Duration::ZERO, limits(8)), [(first, 1), (second, 32)]);
    assert_eq!(step(&mut scheduler, Duration::ZERO, limits(8)), [(first, 1), (second, 32)]);
    assert_eq!(step(&mut scheduler, Duration::ZERO, limits(8)), [(first, 1), (second, 6)]);
    assert_eq!(step(&mut scheduler, Duration::ZERO, limits(8)), [(first, 1), (second, 1)]);
}

#[test]
fn a_short_prompt_beside_decoded_sequences_takes_fewer_steps_than_a_long_one() {
    let mut scheduler = scheduler(1000);
    let limits = StepLimits { short_mixed_budget: 64, short_prompt: 100, ..limits(8) };
    let first = scheduler.submit(Duration::ZERO, spec(1, 20, 50)).unwrap();
    assert_eq!(step(&mut scheduler, Duration::ZERO, limits), [(first, 20)]);
    let long = scheduler.submit(Duration::ZERO, spec(2, 300, 50)).unwrap();
    assert_eq!(step(&mut scheduler, Duration::ZERO, limits), [(first, 1), (long, 32)]);
    let short = scheduler.submit(Duration::ZERO, spec(3, 70, 50)).unwrap();
    // The long prompt is first; the short one uses the rest of its larger budget.
    assert_eq!(step(&mut scheduler, Duration::ZERO, limits), [(first, 1), (long, 32), (short, 32)]);
    assert_eq!(step(&mut scheduler, Duration::ZERO, limits), [(first, 1), (long, 32), (short, 32)]);
    assert_eq!(step(&mut scheduler, Duration::ZERO, limits), [(first, 1), (long, 32), (short, 6)]);
    assert_eq!(step(&mut scheduler, Duration::ZERO, limits), [(first, 1), (short, 1), (long, 32)]);
}

#[test]
fn a_sequence_ends_with_its_last_token_and_leaves_its_prompt_in_the_cache() {
    let mut scheduler = scheduler(100);
    let seq = scheduler.submit(Duration::ZERO, spec(1, 40, 3)).unwrap();
    for _ in 0..3 {
        assert_eq!(step(&mut scheduler, Duration::ZERO, limits(8))[0].0, seq);
    }
    assert_eq!(scheduler.len(), 0);
    let usage = scheduler.cache_usage();
    assert_eq!((usage.used, usage.cached), (0, 2));
    let again = scheduler.submit(Duration::ZERO, spec(1, 40, 3)).unwrap();
    let plan = scheduler.plan(Duration::ZERO, limits(8));
    assert_eq!(
        (plan.segments[0].seq, plan.segments[0].start, plan.segments[0].cached_tokens),
        (again, 32, 32)
    );
    assert_eq!((scheduler.counts().prefix_hits, scheduler.counts().prefix_queries), (32, 80));
}

#[test]
fn a_whole_prompt_in_the_cache_still_computes_its_last_token() {
    let mut scheduler = scheduler(100);
    scheduler.submit(Duration::ZERO, spec(1, 2 * BLOCK_TOKENS, 1)).unwrap();
    step(&mut scheduler, Duration::ZERO, limits(8));
    scheduler.submit(Duration::ZERO, spec(1, 2 * BLOCK_TOKENS, 1)).unwrap();
    let plan = scheduler.plan(Duration::ZERO, limits(8));
    assert_eq!((plan.segments[0].start, plan.segments[0].tokens.len()), (BLOCK_TOKENS, BLOCK_TOKENS));
}

#[test]
fn the_same_prompt_at_the_same_time_is_computed_once() {
    let mut scheduler = scheduler(1000);
    let seqs: Vec<_> = (0..4).map(|_| scheduler.submit(Duration::ZERO, spec(1, 100, 5)).unwrap()).collect();
    assert_eq!(step(&mut scheduler, Duration::ZERO, limits(8)), [(seqs[0], 100)]);
    let rest = step(&mut scheduler, Duration::ZERO, limits(8));
    assert_eq!(rest, [(seqs[0], 1), (seqs[1], 4), (seqs[2], 4), (seqs[3], 4)]);
    assert_eq!(scheduler.counts().prompt_tokens, 400);
    assert_eq!(scheduler.counts().prefix_hits, 3 * 96);
}

#[test]
fn different_salts_share_nothing() {
    let mut scheduler = scheduler(1000);
    for salt in ["a", "b"] {
        scheduler.submit(Duration::ZERO, SequenceSpec { salt: salt.to_owned(), ..spec(1, 100, 1) }).unwrap();
        assert_eq!(step(&mut scheduler, Duration::ZERO, limits(8))[0].1, 100);
    }
}

#[test]
fn the_queue_is_bounded_and_gives_a_retry_time() {
    let mut scheduler = scheduler(1000);
    let mut accepted = Vec::new();
    for principal in ["a", "b", "c", "d", "e"] {
        let all = (0..64).map_while(|_| scheduler.submit(Duration::ZERO, of(1, 5, principal)).ok()).count();
        accepted.push(all);
    }
    // Each may take three times as many places as are free.
    assert_eq!(accepted, [48, 12, 3, 1, 0]);
    let full = scheduler.submit(Duration::ZERO, of(1, 5, "e")).unwrap_err();
    assert_eq!((full.waiting, full.share, full.retry_after), (64, false, SECOND));
    step(&mut scheduler, Duration::ZERO, limits(1));
    let share = scheduler.submit(Duration::ZERO, of(1, 5, "b")).unwrap_err();
    assert_eq!((share.waiting, share.share), (12, true));
    assert!(scheduler.has_queue_space("e") && !scheduler.has_queue_space("b"));
}

#[test]
fn higher_priority_goes_first_and_takes_the_place_of_lower() {
    let mut scheduler = scheduler(1000);
    let low = scheduler.submit(Duration::ZERO, of(1, 1, "")).unwrap();
    step(&mut scheduler, Duration::ZERO, limits(1));
    let same = scheduler.submit(SECOND, of(2, 1, "")).unwrap();
    assert_eq!(step(&mut scheduler, SECOND, limits(1)), [(low, 1)]);
    let high = scheduler.submit(SECOND, of(3, 8, "")).unwrap();
    assert_eq!(step(&mut scheduler, SECOND, limits(1)), [(high, 20)]);
    assert_eq!(scheduler.counts().preemptions, 1);
    scheduler.cancel(SECOND, high);
    // It has kept its blocks and continues at the same position.
    assert_eq!(step(&mut scheduler, SECOND, limits(1)), [(low, 1)]);
    scheduler.cancel(SECOND, low);
    assert_eq!(step(&mut scheduler, SECOND, limits(1)), [(same, 20)]);
}

#[test]
fn priority_takes_the_place_of_lower_however_long_that_has_run() {
    let mut scheduler = scheduler(1000);
    let low = scheduler.submit(Duration::ZERO, of(1, 1, "")).unwrap();
    step(&mut scheduler, Duration::ZERO, limits(1));
    // Only waiting raises a priority.
    let high = scheduler.submit(60 * SECOND, of(2, 8, "")).unwrap();
    assert_eq!(step(&mut scheduler, 60 * SECOND, limits(1)), [(high, 20)]);
    // After waiting for seven levels in all, the lower one is admitted; a priority below nine does not displace it again.
    scheduler.cancel(60 * SECOND, low);
    let aged = scheduler.submit(60 * SECOND, of(3, 1, "")).unwrap();
    step(&mut scheduler, 74 * SECOND, limits(1));
    scheduler.cancel(75 * SECOND, high);
    assert_eq!(step(&mut scheduler, 75 * SECOND, limits(1)), [(aged, 20)]);
    scheduler.submit(75 * SECOND, of(4, 8, "")).unwrap();
    assert_eq!(step(&mut scheduler, 75 * SECOND, limits(1)), [(aged, 1)]);
    let highest = scheduler.submit(75 * SECOND, of(5, 9, "")).unwrap();
    assert_eq!(step(&mut scheduler, 75 * SECOND, limits(1)), [(highest, 20)]);
}

#[test]
fn ageing_bounds_the_wait_of_the_lowest_under_a_flood_of_the_highest() {
    let mut scheduler = scheduler(1000);
    let tick = Duration::from_millis(100);
    let mut now = Duration::ZERO;
    let low = scheduler.submit(now, of(0, 0, "low")).unwrap();
    let mut started = None;
    // Arrivals at twice the rate that can be served.
    for round in 0..2000_u32 {
        if round.is_multiple_of(5) {
            // The queue is full.
            let _ = scheduler.submit(now, SequenceSpec { max_tokens: 10, ..of(round + 1, 9, "flood") });
        }
        if step(&mut scheduler, now, limits(1)).iter().any(|(seq, _)| *seq == low) {
            started.get_or_insert(now);
            break;
        }
        now += tick;
    }
    let started = started.expect("it starts");
    // Sequences that arrive more than 9 levels · 2 s later do not overtake it; by then 36 have arrived, one per second each.
    assert!(started <= 37 * SECOND, "started after {started:?}");
}

#[test]
fn a_greedy_principal_does_not_keep_others_waiting() {
    let mut scheduler = scheduler(1000);
    let tick = Duration::from_millis(100);
    let mut now = Duration::ZERO;
    for kind in 0..40_u32 {
        scheduler.submit(now, SequenceSpec { max_tokens: 10, ..of(kind, 5, "greedy") }).unwrap();
    }
    for _ in 0..20 {
        step(&mut scheduler, now, limits(1));
        now += tick;
    }
    let modest = scheduler.submit(now, of(100, 5, "modest")).unwrap();
    let waited = (0..100).take_while(|_| {
        let ran = step(&mut scheduler, now, limits(1)).iter().any(|(seq, _)| *seq == modest);
        now += tick;
        !ran
    });
    // Eight output tokens ahead, then the other principal's sequence yields its slot.
    assert!(waited.count() <= 9, "it does not wait for what runs");
    assert_eq!(scheduler.shares.len(), 2);
}

#[test]
fn a_small_cache_preempts_the_last_in_rank_without_loss() {
    // A cache of 8 blocks; three sequences of 2 blocks that grow to 4.
    let mut scheduler = scheduler(8);
    let seqs: Vec<_> =
        (1..=3).map(|kind| scheduler.submit(Duration::ZERO, spec(kind, 20, 44)).unwrap()).collect();
    let mut generated = [0; 3];
    for _ in 0..500 {
        for (seq, _) in step(&mut scheduler, Duration::ZERO, limits(8)) {
            generated[seqs.iter().position(|known| *known == seq).unwrap()] += 1;
        }
    }
    assert_eq!(scheduler.len(), 0);
    assert!(scheduler.counts().preemptions > 0);
    assert_eq!(scheduler.counts().generated_tokens, 3 * 44);
    assert_eq!(scheduler.take_ended(), []);
    assert_eq!(scheduler.cache_usage().used, 0);
}

#[test]
fn a_sequence_that_does_not_fit_alone_ends_with_an_error() {
    let mut scheduler = scheduler(4);
    let large = scheduler.submit(Duration::ZERO, spec(1, 100, 10)).unwrap();
    let growing = scheduler.submit(Duration::ZERO, spec(2, 40, 100)).unwrap();
    for _ in 0..200 {
        step(&mut scheduler, Duration::ZERO, limits(8));
    }
    let ended = scheduler.take_ended();
    assert_eq!(
        ended,
        [
            EndedSequence { seq: large, cause: EndCause::Memory },
            EndedSequence { seq: growing, cause: EndCause::Memory }
        ]
    );
    assert!(!scheduler.has_work());
}

#[test]
fn a_slow_reader_pauses_only_itself_and_ends_after_its_limit() {
    let mut scheduler = scheduler(100);
    let slow = scheduler.submit(Duration::ZERO, spec(1, 10, 1000)).unwrap();
    let other = scheduler.submit(Duration::ZERO, spec(2, 10, 1000)).unwrap();
    step(&mut scheduler, Duration::ZERO, limits(1));
    scheduler.reader_slow(SECOND, slow);
    // Its slot is free for the other sequence.
    assert_eq!(step(&mut scheduler, SECOND, limits(1)), [(other, 10)]);
    scheduler.reader_ready(slow, 1);
    assert_eq!(step(&mut scheduler, SECOND, limits(1)), [(slow, 1), (other, 1)]);
    scheduler.reader_slow(2 * SECOND, slow);
    assert_eq!(scheduler.next_expiry(), Some(32 * SECOND));
    // Reading a single event restarts the timeout.
    scheduler.reader_progressed(10 * SECOND, slow);
    step(&mut scheduler, 32 * SECOND, limits(1));
    assert_eq!(scheduler.take_ended(), []);
    step(&mut scheduler, 40 * SECOND, limits(1));
    assert_eq!(scheduler.take_ended(), [EndedSequence { seq: slow, cause: EndCause::SlowReader }]);
}

#[test]
fn deadlines_hold_for_who_waits_and_who_runs() {
    let mut scheduler = scheduler(100);
    let seqs: Vec<_> = (1..=2_u32)
        .map(|kind| {
            let deadline = Some(SECOND * kind);
            scheduler.submit(Duration::ZERO, SequenceSpec { deadline, ..spec(kind, 10, 1000) }).unwrap()
        })
        .collect();
    step(&mut scheduler, Duration::ZERO, limits(1));
    assert_eq!(scheduler.next_expiry(), Some(SECOND));
    step(&mut scheduler, SECOND, limits(1));
    scheduler.expire(2 * SECOND);
    let ended: Vec<_> = scheduler.take_ended().into_iter().map(|ended| ended.seq).collect();
    assert_eq!(ended, seqs);
}

#[test]
fn the_cache_grows_as_it_is_needed_and_stops_where_memory_ends() {
    let mut scheduler = scheduler(1000);
    scheduler.submit(Duration::ZERO, spec(1, 40, 10)).unwrap();
    let plan = scheduler.plan(Duration::ZERO, limits(8));
    assert_eq!(plan.grow.map(|grow| (grow.before, grow.blocks)), Some((0, 64)));
    scheduler.growth_failed(2);
    // Three blocks do not fit into two.
    assert!(scheduler.plan(Duration::ZERO, limits(8)).segments.is_empty());
    assert_eq!(scheduler.take_ended().len(), 1);
}

#[test]
fn a_sequence_of_a_crashed_step_runs_alone_and_ends_after_the_second_crash() {
    let mut scheduler = scheduler(1000);
    let seqs: Vec<_> =
        (1..=2).map(|kind| scheduler.submit(Duration::ZERO, spec(kind, 10, 10)).unwrap()).collect();
    assert_eq!(scheduler.plan(Duration::ZERO, limits(8)).segments.len(), 2);
    scheduler.step_crashed(Duration::ZERO, &seqs);
    scheduler.reset_cache(1000, 4096);
    assert_eq!(step(&mut scheduler, Duration::ZERO, limits(8)), [(seqs[0], 10)]);
    let plan = scheduler.plan(Duration::ZERO, limits(8));
    assert_eq!(plan.segments.len(), 1);
    scheduler.step_crashed(Duration::ZERO, &[plan.segments[0].seq]);
    scheduler.reset_cache(1000, 4096);
    assert_eq!(scheduler.take_ended(), [EndedSequence { seq: seqs[1], cause: EndCause::Crashes }]);
    assert_eq!(step(&mut scheduler, Duration::ZERO, limits(8)), [(seqs[0], 11)]);
}

#[test]
fn no_sequence_is_admitted_while_another_user_waits_for_the_model() {
    let mut scheduler = scheduler(1000);
    let runs = scheduler.submit(Duration::ZERO, spec(1, 10, 10)).unwrap();
    step(&mut scheduler, Duration::ZERO, limits(8));
    scheduler.submit(Duration::ZERO, spec(2, 10, 10)).unwrap();
    let hold = StepLimits { pause_admission: true, ..limits(8) };
    assert_eq!(step(&mut scheduler, Duration::ZERO, hold), [(runs, 1)]);
}
