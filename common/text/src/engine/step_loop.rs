//! The loop of steps on the inference thread.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::TokenMask;
use super::compute::{StepOutcome, compute};
use super::delivery::{Message, TokenOut};
use super::pressure::{cache_limit, check_memory, fewer_sequences, shrink_cache};
use super::sequence_state::SequenceState;
use super::shared::Shared;
use crate::ErrorCode;
use crate::scheduler::{Growth, Plan, PlannedSegment, SegmentDone, SeqId};
use videosdgx_decoder_api::{BLOCK_TOKENS, Decoder, DecoderError};

/// Duration of the loop after which it yields the model to other users.
const MAX_DURATION: Duration = Duration::from_millis(250);
/// Interval between two checks for other users of the model.
const YIELD_CHECK_INTERVAL: Duration = Duration::from_millis(20);
/// Number of consecutive plans without a segment after which the loop ends.
const MAX_EMPTY_PLANS: usize = 4;
/// Steps between two measurements of how many readers keep up.
const NETWORK_STEPS: u64 = 10;
/// Minimum number of streams for a measurement of the network.
const MIN_NETWORK_STREAMS: usize = 4;
/// Smallest prompt chunk, in tokens, to which out-of-memory errors may reduce the chunk size.
const MIN_CHUNK: usize = 32;

/// State of the model loader, as far as the loop needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LoaderView {
    /// Number of loads so far; a new load means an empty cache.
    pub(super) loads: u64,
    /// Callers that wait for an unload, or for the model after one.
    pub(super) waiting: usize,
    /// Granted uses of the model, this one included.
    pub(super) in_use: usize,
}

/// Whether a step loop computed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Some,
    None,
}

/// Computes steps until there is no work or other users need the model.
pub(super) struct StepLoop<'a, M> {
    shared: &'a Shared,
    model: &'a mut M,
    loader: &'a dyn Fn() -> LoaderView,
    begun: Instant,
    last_check: Instant,
    view: LoaderView,
    mask: TokenMask,
}

impl<'a, M: Decoder> StepLoop<'a, M> {
    pub(super) fn new(shared: &'a Shared, model: &'a mut M, loader: &'a dyn Fn() -> LoaderView) -> Self {
        let now = Instant::now();
        let mask = TokenMask::new(shared.language.vocab());
        Self { shared, model, loader, begun: now, last_check: now, view: loader(), mask }
    }

    pub(super) fn run(mut self) -> Progress {
        if !self.begin() {
            return Progress::None;
        }
        let (mut progress, mut empty) = (Progress::None, 0);
        while !self.must_yield() && empty < MAX_EMPTY_PLANS {
            check_memory(self.shared, self.model);
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

    /// Marks the loop as running; after a new load of the model, sets the cache's limits. If the model is of another checkpoint
    /// than the sequences, ends these and returns `false`.
    fn begin(&mut self) -> bool {
        let shared = self.shared;
        let mut core = shared.lock();
        if core.loads != self.view.loads && self.model.checkpoint() != shared.config.checkpoint {
            drop(core);
            tracing::warn!(model = shared.config.model, "checkpoint_exchanged");
            shared.fail_all(
                ErrorCode::ModelUnavailable,
                "the checkpoint was exchanged while the request waited; send it again",
            );
            return false;
        }
        core.in_step_loop = true;
        if core.loads == self.view.loads {
            return true;
        }
        drop(core);
        let shape = self.model.shape();
        let limit = cache_limit(shared, &shape);
        core = shared.lock();
        core.loads = self.view.loads;
        core.block_bytes = shape.cache_bytes_per_token * BLOCK_TOKENS as u64;
        core.full_cache_limit = limit;
        core.prompt_cap = shared.config.prompt_chunk.max(1);
        core.scheduler.reset_cache(limit, shape.max_context);
        let bytes = limit as u64 * core.block_bytes;
        shared.release(core);
        tracing::info!(model = shared.config.model, blocks = limit, bytes, "kv_cache_limit");
        true
    }

    /// Whether another user of the model has waited for [`MAX_DURATION`]. (A pending unload does not end the loop: running sequences
    /// finish first, and no new ones are admitted.)
    fn must_yield(&mut self) -> bool {
        let now = Instant::now();
        if now.duration_since(self.last_check) >= YIELD_CHECK_INTERVAL {
            self.last_check = now;
            self.view = (self.loader)();
        }
        self.view.in_use > 1 && now.duration_since(self.begun) >= MAX_DURATION
    }

    /// The next step; `None` when there is no work.
    fn plan(&mut self) -> Option<Plan> {
        let shared = self.shared;
        let mut core = shared.lock();
        let limits = core.limits(self.view.waiting > 0);
        let plan = core.scheduler.plan(shared.now(), limits);
        core.in_step = plan.segments.iter().map(|segment| segment.seq).collect();
        for _ in 0..plan.cut {
            core.optimizer.record_split();
        }
        let ended = core.take_ended();
        let has_work = core.scheduler.has_work();
        shared.release(core);
        for ended in ended {
            shared.send(Message::ended(ended));
        }
        (has_work || !plan.segments.is_empty()).then_some(plan)
    }

    /// Grows the cache to the plan's size; `false` when memory is short. It then grows the cache as far as possible (found by
    /// bisection, to within 1/16 of the requested growth) and makes that the limit.
    fn grow(&mut self, plan: &Plan) -> bool {
        let Some(Growth { before, blocks }) = plan.grow else { return true };
        let Err(error) = self.model.resize_cache(blocks) else { return true };
        if let DecoderError::DeviceFailed(reason) = &error {
            self.device_failed(reason);
            return false;
        }
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
                shrink_cache(shared, model, false);
            }
        });
        if let Some(reason) = computed.device_failure() {
            self.device_failed(reason);
            return;
        }
        let took = begun.elapsed();
        let (done, tokens, mut failed) = self.sample(plan, &mut computed);
        failed.extend(self.failures(plan, &computed));
        if computed.first_failure.is_some() && !done.is_empty() {
            let seqs = computed.done_sequences(&plan.segments);
            let message = "a step failed and succeeded on a retry".to_owned();
            shared.send(Message::Recovered { seqs, message });
        }
        let tokens_at = Instant::now();
        self.record(plan, &computed, &done, &failed, took, prefetched);
        if !tokens.is_empty() {
            shared.send_tokens(Message::Tokens { at: tokens_at, batch: plan.segments.len(), tokens });
        }
        for (seq, code, message) in failed {
            shared.send(Message::failed(seq, code, message));
        }
    }

    /// The device computes nothing any more in this process: ends all streams, then the process.
    fn device_failed(&self, reason: &str) {
        let shared = self.shared;
        let mut core = shared.lock();
        core.in_step.clear();
        core.counts.failed += 1;
        drop(core);
        let message =
            format!("the device failed and the service starts again; send the request again: {reason}");
        shared.fail_all(ErrorCode::ModelUnavailable, &message);
        videosdgx_model::report_device_failure(reason);
    }

    /// Samples tokens. The sequences' states are taken out of the core meanwhile, so that callers are not blocked.
    fn sample(
        &mut self,
        plan: &Plan,
        computed: &mut StepOutcome,
    ) -> (Vec<SegmentDone>, Vec<TokenOut>, Vec<Failure>) {
        let mut states: Vec<(SeqId, SequenceState)> = {
            let mut core = self.shared.lock();
            let sampling = plan.segments.iter().filter(|segment| segment.samples);
            sampling.filter_map(|segment| core.states.remove_entry(&segment.seq)).collect()
        };
        let (mut done, mut tokens, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for (numbers, logits) in &mut computed.done {
            let mut row = 0;
            for segment in numbers.iter().map(|number| &plan.segments[*number]) {
                let computed = segment.start + segment.tokens.len();
                if !segment.samples {
                    done.push(SegmentDone { seq: segment.seq, computed, token: None, ends: false });
                    continue;
                }
                row += 1;
                // A missing sequence was removed while the step was computed.
                let Some((_, state)) = states.iter_mut().find(|(seq, _)| *seq == segment.seq) else {
                    continue;
                };
                match state.sample(logits.row_mut(row - 1), &mut self.mask, segment.last) {
                    Ok(sampled) => {
                        let (token, ends) = (Some(sampled.id), sampled.end.is_some());
                        done.push(SegmentDone { seq: segment.seq, computed, token, ends });
                        tokens.push(TokenOut {
                            seq: segment.seq,
                            sampled,
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

    /// Errors of the segments that failed twice, except prompt chunks that ran out of memory: those are retried with a smaller chunk.
    fn failures(&self, plan: &Plan, computed: &StepOutcome) -> Vec<Failure> {
        let mut failures = Vec::new();
        for (number, error) in &computed.failed {
            let segment: &PlannedSegment = &plan.segments[*number];
            let code = match error {
                DecoderError::OutOfMemory(_) => {
                    fewer_sequences(self.shared);
                    if segment.tokens.len() > MIN_CHUNK {
                        self.shared.lock().prompt_cap = (segment.tokens.len() / 2).max(MIN_CHUNK);
                        continue;
                    }
                    ErrorCode::MemoryLimitExceeded
                }
                DecoderError::Failed(_) | DecoderError::Backend(_) | DecoderError::DeviceFailed(_) => {
                    ErrorCode::StepFailed
                }
            };
            tracing::error!(model = self.shared.config.model, %error, "step_failed_twice");
            failures.push((segment.seq, code, error.to_string()));
        }
        failures
    }

    /// Records the step in scheduler, controllers and metrics.
    fn record(
        &self,
        plan: &Plan,
        computed: &StepOutcome,
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
            core.remove(done.seq);
        }
        for (seq, ..) in failed {
            core.scheduler.cancel(shared.now(), *seq);
            core.remove(*seq);
        }
        core.counts.steps += 1;
        core.counts.failed += u64::from(!computed.failed.is_empty());
        core.counts.recovered += u64::from(computed.first_failure.is_some() && computed.failed.is_empty());
        // The duration of a retried step is not representative.
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
            if streams >= MIN_NETWORK_STREAMS {
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

/// A sequence that cannot be continued.
type Failure = (SeqId, ErrorCode, String);
