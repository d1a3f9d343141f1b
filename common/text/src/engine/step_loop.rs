//! Steps, one after another, on the inference thread.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::TokenMask;
use super::compute::{Computed, compute};
use super::delivery::{Message, TokenOut};
use super::pressure::{self, cache_limit, fewer_sequences, shorter_cache};
use super::sequence_state::SequenceState;
use super::shared::Shared;
use crate::ErrorCode;
use crate::scheduler::{Growth, Plan, PlannedSegment, SegmentDone, SeqId};
use videosdgx_decoder_api::{BLOCK_TOKENS, Decoder, DecoderError};

/// After so long, others who want the model get their turn.
const LONGEST: Duration = Duration::from_millis(250);
/// Time between two looks at who else wants the model.
const LOOK: Duration = Duration::from_millis(20);
/// Plans without a segment before it gives up.
const EMPTY_PLANS: usize = 4;
/// Steps between two looks at how many readers keep up.
const NETWORK_STEPS: u64 = 10;
/// Fewer streams than this say nothing about the network.
const NETWORK_STREAMS: usize = 4;
/// A chunk of a prompt is cut down no further when it does not fit into memory.
const LEAST_CHUNK: usize = 32;

/// What the loader says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LoaderView {
    /// Loads so far: another one is another model with an empty cache.
    pub(super) loads: u64,
    /// Who waits for an unload (or after one).
    pub(super) waiting: usize,
    /// Uses that run or are granted, this one included.
    pub(super) in_use: usize,
}

/// Whether a burst computed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Some,
    None,
}

/// Steps until nothing is to do or others want the model.
pub(super) struct StepLoop<'a, M> {
    shared: &'a Shared,
    model: &'a mut M,
    look: &'a dyn Fn() -> LoaderView,
    begun: Instant,
    looked: Instant,
    view: LoaderView,
    mask: TokenMask,
}

impl<'a, M: Decoder> StepLoop<'a, M> {
    pub(super) fn new(shared: &'a Shared, model: &'a mut M, look: &'a dyn Fn() -> LoaderView) -> Self {
        let now = Instant::now();
        let mask = TokenMask::new(shared.language.vocab());
        Self { shared, model, look, begun: now, looked: now, view: look(), mask }
    }

    pub(super) fn run(mut self) -> Progress {
        self.enter();
        let (mut progress, mut empty) = (Progress::None, 0);
        while !self.others_want_it() && empty < EMPTY_PLANS {
            pressure::look(self.shared, self.model);
            let Some(plan) = self.plan() else { break };
            if plan.segments.is_empty() {
                empty += 1;
                continue;
            }
            if !self.grow(&plan) {
                continue;
            }
            (progress, empty) = (Progress::Some, 0);
            self.step(&plan);
        }
        self.shared.lock().in_step_loop = false;
        progress
    }

    fn enter(&mut self) {
        let shared = self.shared;
        let mut core = shared.lock();
        core.in_step_loop = true;
        if core.loads == self.view.loads {
            return;
        }
        drop(core);
        let shape = self.model.shape();
        let limit = cache_limit(shared, &shape);
        core = shared.lock();
        core.loads = self.view.loads;
        core.block_bytes = shape.cache_bytes_per_token * BLOCK_TOKENS as u64;
        core.full_cache_limit = limit;
        core.prompt_cap = shared.config.prompt_chunk.max(1);
        core.scheduler.cache_lost(limit, shape.max_context);
        let bytes = limit as u64 * core.block_bytes;
        shared.release(core);
        tracing::info!(model = shared.config.model, blocks = limit, bytes, "kv_cache_limit");
    }

    /// An unload waits until what runs has ended (nobody new is let in meanwhile); other uses wait for a while only.
    fn others_want_it(&mut self) -> bool {
        let now = Instant::now();
        if now.duration_since(self.looked) >= LOOK {
            self.looked = now;
            self.view = (self.look)();
        }
        self.view.in_use > 1 && now.duration_since(self.begun) >= LONGEST
    }

    /// The next step; `None` when there is no work.
    fn plan(&mut self) -> Option<Plan> {
        let shared = self.shared;
        let mut core = shared.lock();
        let limits = core.limits(self.view.waiting > 0);
        let plan = core.scheduler.plan(shared.now(), limits);
        core.in_step = plan.segments.iter().map(|segment| segment.seq).collect();
        for _ in 0..plan.cut {
            core.optimizer.record_cut();
        }
        let ended = core.take_ended();
        let has_work = core.scheduler.has_work();
        shared.release(core);
        for ended in ended {
            shared.send(Message::ended(ended));
        }
        (has_work || !plan.segments.is_empty()).then_some(plan)
    }

    /// Gives the cache the blocks that the plan needs; whether they were to be had. When not, it takes as many as there are (to
    /// within a sixteenth of what was wanted) and makes do with them.
    fn grow(&mut self, plan: &Plan) -> bool {
        let Some(Growth { before, blocks }) = plan.grow else { return true };
        let Err(error) = self.model.resize_cache(blocks) else { return true };
        let (mut have, mut cannot) = (before, blocks);
        while cannot - have > (blocks - before).div_ceil(16) {
            let middle = have + (cannot - have) / 2;
            match self.model.resize_cache(middle) {
                Ok(()) => have = middle,
                Err(_) => cannot = middle,
            }
        }
        let shared = self.shared;
        tracing::warn!(model = shared.config.model, %error, wanted = blocks, blocks = have, "cache_not_grown");
        let mut core = shared.lock();
        core.in_step.clear();
        core.scheduler.growth_failed(have);
        core.full_cache_limit = have;
        shared.release(core);
        false
    }

    fn step(&mut self, plan: &Plan) {
        let shared = self.shared;
        let begun = Instant::now();
        let prefetched = shared.delivering.load(Ordering::Relaxed);
        let mut computed = compute(self.model, &plan.segments, |model, error| {
            tracing::warn!(model = shared.config.model, %error, "step_failed_once");
            if matches!(error, DecoderError::OutOfMemory(_)) {
                shorter_cache(shared, model, false);
            }
        });
        let took = begun.elapsed();
        let (done, tokens, mut failed) = self.choose(plan, &mut computed);
        failed.extend(self.failures(plan, &computed));
        if computed.first_failure.is_some() && !done.is_empty() {
            let seqs = computed.done_seqs(&plan.segments);
            let message = "a step failed and succeeded when tried again".to_owned();
            shared.send(Message::Recovered { seqs, message });
        }
        let tokens_at = Instant::now();
        self.settle(plan, &computed, &done, &failed, took, prefetched);
        if !tokens.is_empty() {
            shared.send_tokens(Message::Tokens { at: tokens_at, batch: plan.segments.len(), tokens });
        }
        for (seq, code, message) in failed {
            shared.send(Message::failed(seq, code, message));
        }
    }

    /// Chooses tokens; the sequences' samplers are out of the core meanwhile, so that callers need not wait.
    fn choose(
        &mut self,
        plan: &Plan,
        computed: &mut Computed,
    ) -> (Vec<SegmentDone>, Vec<TokenOut>, Vec<Failure>) {
        let mut states: Vec<(SeqId, SequenceState)> = {
            let mut core = self.shared.lock();
            let choosing = plan.segments.iter().filter(|segment| segment.chooses);
            choosing.filter_map(|segment| core.states.remove_entry(&segment.seq)).collect()
        };
        let (mut done, mut tokens, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for (numbers, logits) in &mut computed.done {
            let mut row = 0;
            for segment in numbers.iter().map(|number| &plan.segments[*number]) {
                let computed = segment.start + segment.tokens.len();
                if !segment.chooses {
                    done.push(SegmentDone { seq: segment.seq, computed, token: None, ends: false });
                    continue;
                }
                row += 1;
                // Who is not there left while the step was computed.
                let Some((_, state)) = states.iter_mut().find(|(seq, _)| *seq == segment.seq) else {
                    continue;
                };
                match state.choose(logits.row_mut(row - 1), &mut self.mask, segment.last) {
                    Ok(chosen) => {
                        let (token, ends) = (Some(chosen.id), chosen.end.is_some());
                        done.push(SegmentDone { seq: segment.seq, computed, token, ends });
                        tokens.push(TokenOut {
                            seq: segment.seq,
                            chosen,
                            cached_tokens: segment.cached_tokens,
                        });
                    }
                    Err((code, message)) => failed.push((segment.seq, code, message)),
                }
            }
        }
        let mut core = self.shared.lock();
        for (seq, state) in states {
            if core.scheduler.contains(seq) {
                core.states.insert(seq, state);
            }
        }
        drop(core);
        (done, tokens, failed)
    }

    /// Segments that failed twice. A chunk of a prompt for which memory was short is tried again, smaller.
    fn failures(&self, plan: &Plan, computed: &Computed) -> Vec<Failure> {
        let mut failures = Vec::new();
        for (number, error) in &computed.failed {
            let segment: &PlannedSegment = &plan.segments[*number];
            let code = match error {
                DecoderError::OutOfMemory(_) => {
                    fewer_sequences(self.shared);
                    if segment.tokens.len() > LEAST_CHUNK {
                        self.shared.lock().prompt_cap = (segment.tokens.len() / 2).max(LEAST_CHUNK);
                        continue;
                    }
                    ErrorCode::MemoryLimitExceeded
                }
                DecoderError::Failed(_) | DecoderError::Backend(_) => ErrorCode::StepFailed,
            };
            tracing::error!(model = self.shared.config.model, %error, "step_failed_twice");
            failures.push((segment.seq, code, error.to_string()));
        }
        failures
    }

    /// Tells scheduler, controllers and metrics what the step did.
    fn settle(
        &self,
        plan: &Plan,
        computed: &Computed,
        done: &[SegmentDone],
        failed: &[Failure],
        took: Duration,
        prefetched: bool,
    ) {
        let shared = self.shared;
        let metrics = shared.telemetry.metrics();
        let mut core = shared.lock();
        core.in_step.clear();
        core.scheduler.step_done(shared.now(), done);
        for done in done.iter().filter(|done| done.ends) {
            core.forget(done.seq);
        }
        for (seq, ..) in failed {
            core.scheduler.cancel(shared.now(), *seq);
            core.forget(*seq);
        }
        core.counts.steps += 1;
        core.counts.failed += u64::from(!computed.failed.is_empty());
        core.counts.recovered += u64::from(computed.first_failure.is_some() && computed.failed.is_empty());
        // A step that was tried again says nothing about how long steps take.
        if computed.first_failure.is_none() {
            core.optimizer.record_step(took, plan.prompt_tokens, plan.decoding);
        }
        if prefetched {
            core.optimizer.record_prefetch();
            metrics.prefetched_steps.inc();
        }
        let mut decisions = Vec::new();
        if plan.decoding > 0 && plan.prompt_tokens == 0 && computed.first_failure.is_none() {
            decisions.extend(core.batch.record_step(took, plan.decoding));
        }
        if core.counts.steps.is_multiple_of(NETWORK_STEPS) {
            let fell_behind = std::mem::take(&mut core.fell_behind);
            let streams = core.scheduler.counts();
            let streams = streams.running + streams.paused;
            if streams >= NETWORK_STREAMS {
                let stability = 1.0 - fell_behind as f64 / streams as f64;
                decisions.extend(core.batch.record_network(stability));
            }
        }
        let mode = core.optimizer.mode();
        shared.release(core);
        for decision in decisions {
            metrics.count_decision(decision);
        }
        metrics.set_mode(mode);
        metrics.step_seconds.observe(took.as_secs_f64());
        metrics.step_sequences.observe(plan.segments.len() as f64);
    }
}

/// A sequence that cannot go on.
type Failure = (SeqId, ErrorCode, String);
