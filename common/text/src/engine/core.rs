//! The engine's state behind its lock.

use std::collections::HashMap;
use std::task::Waker;
use std::time::Instant;

use super::sequence_state::SequenceState;
use super::{EngineConfig, EngineSnapshot, SubmitError};
use crate::controllers::{
    AdaptiveBatchSizeController, LatencyConfig, LowLatencyOptimizer, MemoryPressureMonitor,
};
use crate::scheduler::{EndCause, EndedSequence, Scheduler, SchedulerConfig, SeqId, StepLimits};
use crate::telemetry::StreamingTelemetryCollector;
use crate::{CacheUsage, ErrorCode, FinishReason};

/// State shared by all threads of the engine, protected by one lock.
pub(super) struct Core {
    pub(super) scheduler: Scheduler,
    pub(super) states: HashMap<SeqId, SequenceState>,
    names: HashMap<SeqId, String>,
    ids: HashMap<String, SeqId>,
    pub(super) batch: AdaptiveBatchSizeController,
    pub(super) optimizer: LowLatencyOptimizer,
    pub(super) memory: MemoryPressureMonitor,
    /// Time of the next memory check.
    pub(super) next_memory_check: Option<Instant>,
    /// Load count of the loader for which the cache is valid.
    pub(super) loads: u64,
    pub(super) block_bytes: u64,
    pub(super) full_cache_limit: usize,
    /// Maximum number of prompt tokens in a step, lowered after a step ran out of memory.
    pub(super) prompt_cap: usize,
    /// Sequences in the step that is being computed.
    pub(super) in_step: Vec<SeqId>,
    /// The inference thread is inside a [`StepLoop`](super::step_loop::StepLoop).
    pub(super) in_step_loop: bool,
    /// Readers that fell behind since the batch-size controller's last check.
    pub(super) fell_behind: usize,
    pub(super) draining: bool,
    pub(super) closed: bool,
    /// Tasks that wait for queue space, with their principals.
    pub(super) queue_wakers: Vec<(String, Waker)>,
    pub(super) counts: StepCounts,
    reported: ReportedCounts,
}

/// Counters of the engine itself.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct StepCounts {
    pub(super) steps: u64,
    pub(super) recovered: u64,
    pub(super) failed: u64,
    pub(super) requests: u64,
    pub(super) refused: u64,
}

/// Counter values already reported to the metrics.
#[derive(Debug, Clone, Copy, Default)]
struct ReportedCounts {
    prefix_queries: u64,
    prefix_hits: u64,
    prompt_tokens: u64,
    preemptions: u64,
}

impl Core {
    pub(super) fn new(config: &EngineConfig) -> Self {
        let batch = AdaptiveBatchSizeController::new(config.batch.clone());
        let latency = LatencyConfig {
            prompt_chunk: config.prompt_chunk,
            slowdown: config.prompt_slowdown,
            ..LatencyConfig::default()
        };
        Self {
            scheduler: Scheduler::new(SchedulerConfig {
                queue_capacity: config.queue_capacity,
                ageing: config.ageing,
                slow_reader_limit: config.slow_reader_limit,
            }),
            states: HashMap::new(),
            names: HashMap::new(),
            ids: HashMap::new(),
            batch,
            optimizer: LowLatencyOptimizer::new(latency),
            memory: MemoryPressureMonitor::new(config.memory_pressure),
            next_memory_check: None,
            loads: 0,
            block_bytes: 0,
            full_cache_limit: 0,
            prompt_cap: config.prompt_chunk.max(1),
            in_step: Vec::new(),
            in_step_loop: false,
            fell_behind: 0,
            draining: false,
            closed: false,
            queue_wakers: Vec::new(),
            counts: StepCounts::default(),
            reported: ReportedCounts::default(),
        }
    }

    pub(super) fn limits(&self, pause_admission: bool) -> StepLimits {
        StepLimits {
            max_running: self.batch.size(),
            prompt_only_budget: self.optimizer.prompt_budget(0).min(self.prompt_cap),
            mixed_budget: self.optimizer.prompt_budget(1).min(self.prompt_cap),
            short_mixed_budget: self.optimizer.short_budget().min(self.prompt_cap),
            short_prompt: self.optimizer.short_prompt(),
            pause_admission,
        }
    }

    /// Refuses a request when the engine is shutting down or the id is in use.
    pub(super) fn check_acceptable(&self, id: &str) -> Result<(), SubmitError> {
        if self.draining || self.closed {
            return Err(SubmitError::Draining);
        }
        if self.ids.contains_key(id) {
            return Err(SubmitError::DuplicateId(id.to_owned()));
        }
        Ok(())
    }

    /// The active stream with this id.
    pub(super) fn find(&self, id: &str) -> Option<SeqId> {
        self.ids.get(id).copied()
    }

    pub(super) fn insert(&mut self, seq: SeqId, id: String, state: SequenceState) {
        self.states.insert(seq, state);
        self.names.insert(seq, id.clone());
        self.ids.insert(id, seq);
    }

    /// Drops the state of a sequence that has left the scheduler.
    pub(super) fn remove(&mut self, seq: SeqId) {
        self.states.remove(&seq);
        if let Some(id) = self.names.remove(&seq) {
            self.ids.remove(&id);
        }
    }

    /// Takes the sequences that the scheduler ended by itself.
    pub(super) fn take_ended(&mut self) -> Vec<EndedSequence> {
        let ended = self.scheduler.take_ended();
        for one in &ended {
            self.remove(one.seq);
        }
        ended
    }

    /// Whether the queue has space for this principal; otherwise `waker` is woken once it has.
    pub(super) fn has_queue_space(&mut self, principal: &str, waker: &Waker) -> bool {
        if self.scheduler.has_queue_space(principal) || self.draining {
            return true;
        }
        self.queue_wakers.retain(|(_, known)| !known.will_wake(waker));
        self.queue_wakers.push((principal.to_owned(), waker.clone()));
        false
    }

    /// Takes the tasks for whose principals the queue has space.
    pub(super) fn take_queue_wakers(&mut self) -> Vec<Waker> {
        let scheduler = &self.scheduler;
        let ready = self.queue_wakers.extract_if(.., |(principal, _)| scheduler.has_queue_space(principal));
        ready.map(|(_, waker)| waker).collect()
    }

    /// Refuses new requests from now on.
    pub(super) fn start_draining(&mut self) -> Vec<Waker> {
        self.draining = true;
        std::mem::take(&mut self.queue_wakers).into_iter().map(|(_, waker)| waker).collect()
    }

    pub(super) fn cache_usage(&self) -> CacheUsage {
        CacheUsage { block_bytes: self.block_bytes, ..self.scheduler.cache_usage() }
    }

    pub(super) fn snapshot(&self) -> EngineSnapshot {
        let counts = self.scheduler.counts();
        EngineSnapshot {
            running: counts.running,
            waiting: counts.waiting,
            paused: counts.paused,
            max_running: self.batch.size(),
            cache: self.cache_usage(),
            prefix_queries: counts.prefix_queries,
            prefix_hits: counts.prefix_hits,
            prompt_tokens: counts.prompt_tokens,
            generated_tokens: counts.generated_tokens,
            preemptions: counts.preemptions,
            steps: self.counts.steps,
            recovered_steps: self.counts.recovered,
            failed_steps: self.counts.failed,
            requests: self.counts.requests,
            refused: self.counts.refused,
            draining: self.draining,
        }
    }

    /// Updates gauges and counters of the metrics.
    pub(super) fn update_metrics(&mut self, telemetry: &StreamingTelemetryCollector) {
        let metrics = telemetry.metrics();
        let counts = self.scheduler.counts();
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        metrics.running.set(gauge(counts.running));
        metrics.waiting.set(gauge(counts.waiting));
        metrics.paused.set(gauge(counts.paused));
        metrics.max_running.set(gauge(self.batch.size()));
        let usage = self.cache_usage();
        metrics.cache_usage.set(usage.used_share());
        metrics.cache_bytes.set(i64::try_from(usage.capacity as u64 * usage.block_bytes).unwrap_or(i64::MAX));
        let reported = &mut self.reported;
        for (counter, now, before) in [
            (&metrics.prefix_queries, counts.prefix_queries, &mut reported.prefix_queries),
            (&metrics.prefix_hits, counts.prefix_hits, &mut reported.prefix_hits),
            (&metrics.prompt_tokens, counts.prompt_tokens, &mut reported.prompt_tokens),
            (&metrics.preemptions, counts.preemptions, &mut reported.preemptions),
        ] {
            // The preemption counter may decrease: a displaced sequence that keeps its slot is subtracted again.
            counter.inc_by(now.saturating_sub(*before));
            *before = now.max(*before);
        }
    }
}

/// How the end of a sequence by the scheduler is reported to its stream.
pub(super) fn end_report(cause: EndCause) -> (FinishReason, ErrorCode, &'static str) {
    match cause {
        EndCause::Deadline => (FinishReason::Deadline, ErrorCode::DeadlineExceeded, "the deadline passed"),
        EndCause::SlowReader => {
            (FinishReason::Error, ErrorCode::ReaderTooSlow, "the stream was not read for too long")
        }
        EndCause::Memory => (
            FinishReason::Error,
            ErrorCode::MemoryLimitExceeded,
            "the sequence does not fit into the KV cache; shorten the prompt or give the cache more memory",
        ),
        EndCause::Crashes => (FinishReason::Error, ErrorCode::StepFailed, "the step failed twice"),
    }
}
