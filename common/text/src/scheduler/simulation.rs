//! Randomised test of the scheduler with callers, readers, failures and cache sizes, on a cache with tracked content.

use std::collections::HashMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;
use videosdgx_decoder_api::{BLOCK_TOKENS, BlockId};

/// The content of a token's position in the cache: a hash of the sequence up to it.
type Content = u64;

struct Caller {
    prompt: Vec<u32>,
    wanted: usize,
    got: Vec<u32>,
    paused: bool,
}

struct World {
    random: StdRng,
    now: Duration,
    scheduler: Scheduler,
    limits: StepLimits,
    places: Vec<Content>,
    callers: HashMap<SeqId, Caller>,
    finished: usize,
    ended_early: usize,
}

/// The content of each position.
fn contents(tokens: &[u32]) -> Vec<Content> {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    let next = |token: &u32| {
        hash = (hash ^ u64::from(*token)).wrapping_mul(0x0100_0000_01b3).rotate_left(5);
        hash
    };
    tokens.iter().map(next).collect()
}

fn place(segment: &PlannedSegment, position: usize) -> usize {
    segment.blocks[position / BLOCK_TOKENS] as usize * BLOCK_TOKENS + position % BLOCK_TOKENS
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut scheduler = Scheduler::new(SchedulerConfig {
            queue_capacity: random.random_range(1..24),
            ageing: Duration::from_millis(random.random_range(1..2000)),
            slow_reader_limit: Duration::from_secs(1),
        });
        scheduler.reset_cache(random.random_range(10..120), 400);
        let limits = StepLimits {
            max_running: random.random_range(1..9),
            prompt_only_budget: random.random_range(16..128),
            mixed_budget: random.random_range(1..32),
            short_mixed_budget: random.random_range(1..64),
            short_prompt: random.random_range(0..48),
            pause_admission: false,
        };
        let (places, callers) = (vec![0; 120 * BLOCK_TOKENS], HashMap::new());
        Self { random, now: Duration::ZERO, scheduler, limits, places, callers, finished: 0, ended_early: 0 }
    }

    fn arrive(&mut self) {
        // Few different prefixes, so that they are shared.
        let beginning = self.random.random_range(0..3_u32);
        let mut prompt = vec![beginning; self.random.random_range(1..80)];
        prompt.extend((0..self.random.random_range(0..40)).map(|_| self.random.random_range(0..5_u32)));
        let wanted = self.random.random_range(1..60);
        let deadline = self.random.random_bool(0.1).then(|| self.now + Duration::from_millis(400));
        let principal = format!("p{}", self.random.random_range(0..3));
        let spec = SequenceSpec {
            principal: principal.clone(),
            priority: self.random.random_range(0..10),
            tokens: prompt.clone(),
            max_tokens: wanted,
            deadline,
            ..SequenceSpec::default()
        };
        if let Ok(seq) = self.scheduler.submit(self.now, spec) {
            self.callers.insert(seq, Caller { prompt, wanted, got: Vec::new(), paused: false });
        } else {
            assert!(!self.scheduler.has_queue_space(&principal));
        }
    }

    fn any(&mut self) -> Option<SeqId> {
        let mut live: Vec<_> = self.callers.keys().copied().collect();
        live.sort_unstable();
        (!live.is_empty()).then(|| live[self.random.random_range(0..live.len())])
    }

    fn disturb(&mut self, arrivals: bool) {
        match self.random.random_range(0..40) {
            0..=9 if arrivals => self.arrive(),
            10..=11 => {
                if let Some(seq) = self.any() {
                    assert!(self.scheduler.cancel(self.now, seq));
                    self.callers.remove(&seq);
                    self.ended_early += 1;
                }
            }
            12..=14 => {
                if let Some(seq) = self.any() {
                    self.scheduler.reader_slow(self.now, seq);
                    self.callers.get_mut(&seq).unwrap().paused = true;
                }
            }
            15..=19 => {
                if let Some(seq) = self.any() {
                    self.scheduler.reader_ready(seq, self.limits.max_running);
                    self.callers.get_mut(&seq).unwrap().paused = false;
                }
            }
            20 => {
                let compact = self.random.random_bool(0.5);
                self.scheduler.shrink_cache(compact);
            }
            21 if self.random.random_bool(0.2) => {
                self.places.fill(0);
                self.scheduler.reset_cache(self.random.random_range(10..120), 400);
            }
            22 => self.limits.max_running = self.random.random_range(1..9),
            23 => {
                self.scheduler.preempt_last();
            }
            _ => {}
        }
    }

    /// Plans and checks a step, and completes it unless it fails; `false` when the plan is empty.
    fn step(&mut self, failures: bool) -> bool {
        let plan = self.scheduler.plan(self.now, self.limits);
        if let Some(grow) = plan.grow
            && failures
            && self.random.random_bool(0.1)
        {
            self.scheduler.growth_failed(grow.before.max(10));
            return true;
        }
        self.check_plan(&plan);
        self.collect_ended();
        if plan.segments.is_empty() {
            return false;
        }
        self.now += Duration::from_millis(10);
        if failures && self.random.random_bool(0.05) {
            let in_step: Vec<SeqId> = plan.segments.iter().map(|segment| segment.seq).collect();
            if self.random.random_bool(0.2) {
                self.scheduler.step_crashed(self.now, &in_step);
                self.places.fill(0);
                self.scheduler.reset_cache(100, 400);
            }
            return true;
        }
        // A caller may leave during the step.
        if self.random.random_bool(0.05)
            && let Some(seq) = self.any()
        {
            self.scheduler.cancel(self.now, seq);
            self.callers.remove(&seq);
            self.ended_early += 1;
        }
        self.finish(&plan);
        true
    }

    fn check_plan(&self, plan: &Plan) {
        let mut written: Vec<BlockId> = Vec::new();
        let beside = self.limits.mixed_budget.max(self.limits.short_mixed_budget);
        let budget = if plan.decoding == 0 { self.limits.prompt_only_budget } else { beside };
        assert!(plan.prompt_tokens <= budget.max(1), "the budget holds");
        let mut seqs: Vec<SeqId> = plan.segments.iter().map(|segment| segment.seq).collect();
        seqs.sort_unstable();
        seqs.dedup();
        assert_eq!(seqs.len(), plan.segments.len(), "a sequence is once in a step");
        for segment in &plan.segments {
            let end = segment.start + segment.tokens.len();
            assert!(!segment.tokens.is_empty() && segment.blocks.len() * BLOCK_TOKENS >= end);
            written.extend(&segment.blocks[segment.start / BLOCK_TOKENS..]);
            if let Some(caller) = self.callers.get(&segment.seq) {
                let mut tokens = caller.prompt.clone();
                tokens.extend(&caller.got);
                assert_eq!(
                    &tokens[segment.start..end],
                    &*segment.tokens,
                    "the tokens follow what is computed"
                );
                assert_eq!(segment.samples, end == tokens.len());
                for (position, wanted) in contents(&tokens[..segment.start]).into_iter().enumerate() {
                    let found = self.places[place(segment, position)];
                    assert_eq!(found, wanted, "position {position} holds what it should");
                }
            }
        }
        for block in &written {
            assert_eq!(self.scheduler.cache.holders(*block), 1, "block {block} is written and shared");
        }
        let count = written.len();
        written.sort_unstable();
        written.dedup();
        assert_eq!(written.len(), count, "a block is written by one");
    }

    fn finish(&mut self, plan: &Plan) {
        let mut done = Vec::new();
        for segment in &plan.segments {
            let Some(caller) = self.callers.get_mut(&segment.seq) else { continue };
            let mut tokens = caller.prompt.clone();
            tokens.extend(&caller.got);
            let computed = segment.start + segment.tokens.len();
            let contents = contents(&tokens[..computed]);
            for (position, content) in contents.iter().enumerate().skip(segment.start) {
                self.places[place(segment, position)] = *content;
            }
            let token = segment.samples.then(|| (contents[computed - 1] % 5) as u32);
            caller.got.extend(token);
            assert_eq!(segment.last, segment.samples && caller.got.len() == caller.wanted);
            done.push(SegmentDone { seq: segment.seq, computed, token, ends: segment.last });
            if segment.last {
                self.callers.remove(&segment.seq);
                self.finished += 1;
            }
        }
        self.scheduler.step_done(self.now, &done);
    }

    fn collect_ended(&mut self) {
        for ended in self.scheduler.take_ended() {
            self.callers.remove(&ended.seq).expect("who ended was alive");
            self.ended_early += 1;
        }
    }

    fn check(&mut self) {
        self.collect_ended();
        let held: Vec<&[BlockId]> =
            self.scheduler.sequences.values().map(|sequence| &*sequence.blocks).collect();
        self.scheduler.cache.check(&held);
        assert_eq!(self.scheduler.len(), self.callers.len(), "nobody is forgotten");
        self.scheduler.check_shares();
    }
}

fn run(seed: u64) -> (usize, usize) {
    let mut world = World::new(seed);
    for _ in 0..120 {
        world.disturb(true);
        world.step(true);
        world.check();
        world.now += Duration::from_millis(1);
    }
    // Without further disturbance, all sequences end within a bounded number of steps.
    let mut live: Vec<_> = world.callers.keys().copied().collect();
    live.sort_unstable();
    for seq in live {
        world.scheduler.reader_ready(seq, world.limits.max_running);
    }
    let mut idle = 0;
    for _ in 0..20_000 {
        if world.callers.is_empty() {
            break;
        }
        idle = if world.step(false) { 0 } else { idle + 1 };
        world.check();
        assert!(idle < 3, "there is work and nothing is done");
    }
    assert_eq!(world.scheduler.len(), 0, "nobody is stuck");
    assert_eq!(world.scheduler.cache_usage().used, 0, "the cache returns to empty");
    (world.finished, world.ended_early)
}

#[test]
fn all_sequences_end_and_no_block_is_lost() {
    let (mut finished, mut ended_early) = (0, 0);
    for seed in 0..256 {
        match std::panic::catch_unwind(|| run(seed)) {
            Ok((whole, early)) => {
                finished += whole;
                ended_early += early;
            }
            Err(panic) => {
                eprintln!("failing seed: {seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    // The parameters are balanced: some sequences complete, and all kinds of failures occur.
    assert!(finished > 2_000 && ended_early > 1_000, "{finished} finished, {ended_early} ended early");
}
