//! Randomised tests of the shares of principals.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::shares::{LEAD, OUTPUT_TOKEN, QUANTUM, at_level};
use super::*;

/// Sequences of several principals on a cache with room for all.
struct World {
    random: StdRng,
    now: Duration,
    step_time: Duration,
    scheduler: Scheduler,
    limits: StepLimits,
    kind: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut scheduler = Scheduler::new(SchedulerConfig {
            queue_capacity: 1000,
            ageing: Duration::from_secs(2),
            slow_reader_limit: Duration::from_secs(30),
        });
        scheduler.reset_cache(1 << 16, 1 << 16);
        let mixed_budget = random.random_range(8..64);
        let limits = StepLimits {
            max_running: random.random_range(1..=16),
            prompt_only_budget: 128,
            mixed_budget,
            short_mixed_budget: mixed_budget,
            short_prompt: 0,
            pause_admission: false,
        };
        let step_time = Duration::from_millis(random.random_range(5..500));
        Self { random, now: Duration::ZERO, step_time, scheduler, limits, kind: 0 }
    }

    /// A prompt that shares no block with others.
    fn submit(&mut self, principal: &str, priority: u8, prompt: usize, max_tokens: usize) -> SeqId {
        self.kind += 1;
        let spec = SequenceSpec {
            principal: principal.to_owned(),
            priority,
            tokens: vec![self.kind; prompt],
            max_tokens,
            ..SequenceSpec::default()
        };
        self.scheduler.submit(self.now, spec).expect("the queue has space")
    }

    /// Computes a step and returns the sequences that got a token.
    fn step(&mut self) -> Vec<SeqId> {
        let plan = self.scheduler.plan(self.now, self.limits);
        assert!(plan.segments.len() <= self.limits.max_running, "the number of slots holds");
        self.now += self.step_time;
        let done: Vec<SegmentDone> = plan
            .segments
            .iter()
            .map(|segment| SegmentDone {
                seq: segment.seq,
                computed: segment.start + segment.tokens.len(),
                token: segment.samples.then_some(0),
                ends: segment.last,
            })
            .collect();
        self.scheduler.step_done(self.now, &done);
        done.iter().filter(|done| done.token.is_some()).map(|done| done.seq).collect()
    }

    /// Number of waiting sequences of a principal.
    fn waiting(&self, principal: &str) -> usize {
        self.scheduler.shares.queued(principal)
    }
}

/// Runs `test` with many seeds and prints the seed that fails.
fn with_seeds(test: impl Fn(u64) + std::panic::RefUnwindSafe) {
    for seed in 0..128 {
        if let Err(panic) = std::panic::catch_unwind(|| test(seed)) {
            eprintln!("failing seed: {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// The bound that `docs/streaming.md` states.
fn first_token_bound(prompt: usize, limits: StepLimits) -> usize {
    10 + 2 * prompt.div_ceil(limits.mixed_budget) + prompt.div_ceil(2 * limits.max_running)
}

#[test]
fn a_principal_with_many_long_generations_does_not_delay_the_first_token_of_another() {
    with_seeds(|seed| {
        let mut world = World::new(seed);
        let long = world.random.random_range(17..=48);
        for _ in 0..long {
            let (prompt, tokens) = (world.random.random_range(1..400), world.random.random_range(2000..9000));
            world.submit("greedy", 5, prompt, tokens);
        }
        for _ in 0..world.random.random_range(1..600) {
            world.step();
        }
        // Repeatedly: the bound does not depend on credit from a long absence.
        for _ in 0..3 {
            let prompt = world.random.random_range(1..300);
            let modest = world.submit("modest", 5, prompt, 4);
            let bound = first_token_bound(prompt, world.limits);
            let steps = (1..=bound).find(|_| world.step().contains(&modest));
            assert!(steps.is_some(), "no token after {bound} steps, {:?}", world.limits);
            // It may be ahead afterwards, until the other one has got as much.
            for _ in 0..200 {
                world.step();
            }
            assert!(!world.scheduler.contains(modest), "it ends");
        }
    });
}

#[test]
fn principals_that_always_wait_get_equal_shares_by_weight() {
    with_seeds(|seed| {
        let mut world = World::new(seed);
        // Too short for ageing, which changes what a token costs.
        world.step_time = Duration::from_micros(100);
        let names = ["a", "b", "c"];
        let priorities = names.map(|_| world.random.random_range(4..7_u8));
        let lowest = priorities.into_iter().min().unwrap_or(0);
        let slots = world.limits.max_running as u64;
        let step = slots * OUTPUT_TOKEN + world.limits.prompt_only_budget as u64;
        let bound = at_level(QUANTUM * (slots + 1) + LEAD + step, lowest);
        let mut accounts = [None; 3];
        for _ in 0..1000 {
            for (at, name) in names.into_iter().enumerate() {
                while world.waiting(name) < 20 {
                    let (prompt, tokens) =
                        (world.random.random_range(1..150), world.random.random_range(1..200));
                    let seq = world.submit(name, priorities[at], prompt, tokens);
                    accounts[at] = world.scheduler.sequences.get(&seq).map(|sequence| sequence.account);
                }
            }
            world.step();
            let counters = accounts.iter().flatten().map(|id| world.scheduler.shares.counter(*id));
            let (least, most) = counters
                .fold((u64::MAX, 0), |(least, most), counter| (least.min(counter), most.max(counter)));
            assert!(most - least <= bound, "{} > {bound}, {priorities:?}, {:?}", most - least, world.limits);
        }
        let shares = accounts.iter().flatten().map(|id| world.scheduler.shares.counter(*id)).min();
        assert!(shares.is_some_and(|least| least > bound), "the test is long enough to tell");
    });
}

#[test]
fn a_higher_priority_gets_twice_the_tokens_per_level() {
    let mut world = World::new(1);
    world.limits.max_running = 12;
    for _ in 0..40 {
        world.submit("five", 5, 1, 50_000);
        world.submit("six", 6, 1, 50_000);
    }
    let six: Vec<SeqId> = (1..=40).map(|number| SeqId(2 * number)).collect();
    let mut tokens = [0_usize; 2];
    for _ in 0..2000 {
        for seq in world.step() {
            tokens[usize::from(six.contains(&seq))] += 1;
        }
    }
    let ratio = tokens[1] as f64 / tokens[0] as f64;
    assert!((1.9..2.1).contains(&ratio), "{tokens:?}");
}

#[test]
fn a_principal_that_fills_the_cache_yields_blocks_once_it_is_ahead_by_what_it_loses() {
    with_seeds(|seed| {
        let mut world = World::new(seed);
        world.limits.max_running = 4;
        // Room for three sequences of 400 tokens.
        world.scheduler.reset_cache(80, 1000);
        for _ in 0..8 {
            world.submit("greedy", 5, 100, 300);
        }
        for _ in 0..world.random.random_range(50..300) {
            world.step();
        }
        let modest = world.submit("modest", 5, 200, 20);
        // At most the victims' 400 tokens each, two per step and sequence.
        let steps = (1..2000).find(|_| {
            world.step();
            !world.scheduler.contains(modest)
        });
        assert!(steps.is_some_and(|steps| steps < 900), "ended after {steps:?} steps");
        for _ in 0..20_000 {
            world.step();
        }
        assert_eq!(world.scheduler.len(), 0, "everybody ends");
    });
}
