//! The part of the engine that a lock protects.

use std::collections::HashMap;
use std::task::Waker;
use std::time::Instant;

use super::sequence_state::SequenceState;
use super::{EngineConfig, EngineSnapshot, SubmitError};
use crate::controllers::{
    AdaptiveBatchSizeController, LatencyConfig, LowLatencyOptimizer, MemoryPressureMonitor,
};
use crate::scheduler::{Ended, EndedBy, Limits, Scheduler, SchedulerConfig, SeqId};
use crate::telemetry::StreamingTelemetryCollector;
use crate::{CacheUsage, ErrorCode, FinishReason};

/// What the lock protects.
pub(super) struct Core {
    pub(super) scheduler: Scheduler,
    pub(super) states: HashMap<SeqId, SequenceState>,
    names: HashMap<SeqId, String>,
    ids: HashMap<String, SeqId>,
    pub(super) batch: AdaptiveBatchSizeController,
    pub(super) optimizer: LowLatencyOptimizer,
    pub(super) memory: MemoryPressureMonitor,
    /// When the memory is looked at again.
    pub(super) next_look: Option<Instant>,
    /// Which load of the model the cache belongs to.
    pub(super) loads: u64,
    pub(super) block_bytes: u64,
    pub(super) full_cache_limit: usize,
    /// Most tokens of prompts in a step, since more of them did not fit into memory.
    pub(super) prompt_cap: usize,
    /// Who is in the step that is being computed.
    pub(super) in_step: Vec<SeqId>,
    /// The inference thread is inside a burst.
    pub(super) in_step_loop: bool,
    /// Readers that fell behind since the batch-size controller last looked.
    pub(super) fell_behind: usize,
    pub(super) draining: bool,
    pub(super) closed: bool,
    pub(super) room: Vec<Waker>,
    pub(super) counts: StepCounts,
    shown: Shown,
}

/// What the engine itself counts.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct StepCounts {
    pub(super) steps: u64,
    pub(super) recovered: u64,
    pub(super) failed: u64,
    pub(super) requests: u64,
    pub(super) refused: u64,
}

/// What the metrics have been told already.
#[derive(Debug, Clone, Copy, Default)]
struct Shown {
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
            next_look: None,
            loads: 0,
            block_bytes: 0,
            full_cache_limit: 0,
            prompt_cap: config.prompt_chunk.max(1),
            in_step: Vec::new(),
            in_step_loop: false,
            fell_behind: 0,
            draining: false,
            closed: false,
            room: Vec::new(),
            counts: StepCounts::default(),
            shown: Shown::default(),
        }
    }

    pub(super) fn limits(&self, hold: bool) -> Limits {
        Limits {
            max_running: self.batch.size(),
            prompt_alone: self.optimizer.prompt_budget(0).min(self.prompt_cap),
            prompt_beside: self.optimizer.prompt_budget(1).min(self.prompt_cap),
            short_beside: self.optimizer.short_budget().min(self.prompt_cap),
            short_prompt: self.optimizer.short_prompt(),
            hold,
        }
    }

    /// Whether a request with this id can be taken at all.
    pub(super) fn refuse_if_closed(&self, id: &str) -> Result<(), SubmitError> {
        if self.draining || self.closed {
            return Err(SubmitError::Draining);
        }
        if self.ids.contains_key(id) {
            return Err(SubmitError::DuplicateId(id.to_owned()));
        }
        Ok(())
    }

    /// The live stream with this id.
    pub(super) fn find(&self, id: &str) -> Option<SeqId> {
        self.ids.get(id).copied()
    }

    pub(super) fn remember(&mut self, seq: SeqId, id: String, state: SequenceState) {
        self.states.insert(seq, state);
        self.names.insert(seq, id.clone());
        self.ids.insert(id, seq);
    }

    /// A sequence has left the scheduler.
    pub(super) fn forget(&mut self, seq: SeqId) {
        self.states.remove(&seq);
        if let Some(id) = self.names.remove(&seq) {
            self.ids.remove(&id);
        }
    }

    /// Who was ended by the scheduler itself.
    pub(super) fn take_ended(&mut self) -> Vec<Ended> {
        let ended = self.scheduler.take_ended();
        for one in &ended {
            self.forget(one.seq);
        }
        ended
    }

    /// Whether there is room in the queue; else `waker` is woken when there is.
    pub(super) fn has_room(&mut self, waker: &Waker) -> bool {
        if self.scheduler.has_room() || self.draining {
            return true;
        }
        self.room.retain(|known| !known.will_wake(waker));
        self.room.push(waker.clone());
        false
    }

    /// Refuses new requests from now on.
    pub(super) fn start_draining(&mut self) -> Vec<Waker> {
        self.draining = true;
        std::mem::take(&mut self.room)
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

    /// Brings the metrics up to date.
    pub(super) fn show(&mut self, telemetry: &StreamingTelemetryCollector) {
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
        let shown = &mut self.shown;
        for (counter, now, before) in [
            (&metrics.prefix_queries, counts.prefix_queries, &mut shown.prefix_queries),
            (&metrics.prefix_hits, counts.prefix_hits, &mut shown.prefix_hits),
            (&metrics.prompt_tokens, counts.prompt_tokens, &mut shown.prompt_tokens),
            (&metrics.preemptions, counts.preemptions, &mut shown.preemptions),
        ] {
            // A displaced sequence that stays after all is counted back.
            counter.inc_by(now.saturating_sub(*before));
            *before = now.max(*before);
        }
    }
}

/// How a stream that the scheduler ended is told.
pub(super) fn ending(by: EndedBy) -> (FinishReason, ErrorCode, &'static str) {
    match by {
        EndedBy::Deadline => (FinishReason::Deadline, ErrorCode::DeadlineExceeded, "the deadline passed"),
        EndedBy::SlowReader => {
            (FinishReason::Error, ErrorCode::ReaderTooSlow, "the stream was not read for too long")
        }
        EndedBy::Memory => (
            FinishReason::Error,
            ErrorCode::MemoryLimitExceeded,
            "the sequence does not fit into the cache, shorten the prompt or give the cache more memory",
        ),
        EndedBy::Crashes => (FinishReason::Error, ErrorCode::StepFailed, "the step failed twice"),
    }
}
