//! Prometheus metrics of the engine, with vLLM's names under our prefix, so that its dashboards can be used.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram};
use prometheus_client::registry::Registry;

use crate::controllers::{BatchDecision, DeliveryMode, MemoryAction};
use crate::{ErrorCode, FinishReason};

/// Buckets as in vLLM, seconds.
const FIRST_TOKEN: [f64; 22] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
    80.0, 160.0, 640.0, 2560.0,
];
const BETWEEN_TOKENS: [f64; 20] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0,
    40.0, 80.0,
];
const REQUEST: [f64; 21] = [
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0,
    960.0, 1920.0, 7680.0,
];
const STEP: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 1.0, 2.5, 10.0];
const SEQUENCES: [f64; 9] = [1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 32.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    finished_reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabel {
    decision: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActionLabel {
    action: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabel {
    code: &'static str,
    recovered: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModeLabel {
    mode: &'static str,
}

type FloatGauge = Gauge<f64, AtomicU64>;

/// Metrics of the engine. Clones are handles to the same metrics.
#[derive(Debug, Clone)]
pub struct EngineMetrics {
    pub(crate) time_to_first_token: Histogram,
    pub(crate) inter_token_latency: Histogram,
    pub(crate) e2e_request_latency: Histogram,
    pub(crate) step_seconds: Histogram,
    pub(crate) step_sequences: Histogram,
    pub(crate) running: Gauge,
    pub(crate) waiting: Gauge,
    pub(crate) paused: Gauge,
    pub(crate) max_running: Gauge,
    pub(crate) cache_usage: FloatGauge,
    pub(crate) cache_bytes: Gauge,
    pub(crate) prefix_queries: Counter,
    pub(crate) prefix_hits: Counter,
    pub(crate) prompt_tokens: Counter,
    pub(crate) generation_tokens: Counter,
    pub(crate) preemptions: Counter,
    pub(crate) prefetched_steps: Counter,
    pub(crate) refused: Counter,
    finished: Family<ReasonLabel, Counter>,
    decisions: Family<DecisionLabel, Counter>,
    memory_actions: Family<ActionLabel, Counter>,
    errors: Family<ErrorLabel, Counter>,
    modes: Family<ModeLabel, Gauge>,
}

impl EngineMetrics {
    pub(crate) fn new() -> Self {
        Self {
            time_to_first_token: Histogram::new(FIRST_TOKEN),
            inter_token_latency: Histogram::new(BETWEEN_TOKENS),
            e2e_request_latency: Histogram::new(REQUEST),
            step_seconds: Histogram::new(STEP),
            step_sequences: Histogram::new(SEQUENCES),
            running: Gauge::default(),
            waiting: Gauge::default(),
            paused: Gauge::default(),
            max_running: Gauge::default(),
            cache_usage: FloatGauge::default(),
            cache_bytes: Gauge::default(),
            prefix_queries: Counter::default(),
            prefix_hits: Counter::default(),
            prompt_tokens: Counter::default(),
            generation_tokens: Counter::default(),
            preemptions: Counter::default(),
            prefetched_steps: Counter::default(),
            refused: Counter::default(),
            finished: Family::default(),
            decisions: Family::default(),
            memory_actions: Family::default(),
            errors: Family::default(),
            modes: Family::default(),
        }
    }

    /// Adds all metrics to `registry`, which should have the prefix `videosdgx`.
    pub fn register(&self, registry: &mut Registry) {
        let histograms = [
            (
                "time_to_first_token_seconds",
                "Time from submission to the first token",
                &self.time_to_first_token,
            ),
            ("inter_token_latency_seconds", "Time between two tokens of a stream", &self.inter_token_latency),
            ("e2e_request_latency_seconds", "Time from submission to the end", &self.e2e_request_latency),
            ("step_seconds", "Duration of a step of the engine", &self.step_seconds),
            ("step_sequences", "Sequences decoded in a step", &self.step_sequences),
        ];
        for (name, help, histogram) in histograms {
            registry.register(name, help, histogram.clone());
        }
        let gauges = [
            ("num_requests_running", "Sequences being generated", &self.running),
            ("num_requests_waiting", "Requests waiting for a slot", &self.waiting),
            ("num_requests_paused", "Sequences paused because their reader is slow", &self.paused),
            (
                "max_num_seqs",
                "Maximum number of running sequences, set by the batch-size controller",
                &self.max_running,
            ),
            ("kv_cache_bytes", "Memory of the KV cache", &self.cache_bytes),
        ];
        for (name, help, gauge) in gauges {
            registry.register(name, help, gauge.clone());
        }
        registry.register(
            "kv_cache_usage_perc",
            "Share of the KV cache's limit that is held by sequences, 0 to 1",
            self.cache_usage.clone(),
        );
        let counters = [
            ("prefix_cache_queries", "Prompt tokens looked up in the cache", &self.prefix_queries),
            ("prefix_cache_hits", "Prompt tokens found in the cache", &self.prefix_hits),
            ("prompt_tokens", "Prompt tokens computed or found in the cache", &self.prompt_tokens),
            ("generation_tokens", "Output tokens generated", &self.generation_tokens),
            ("num_preemptions", "Preemptions of sequences", &self.preemptions),
            ("prefetched_steps", "Steps begun while tokens were being delivered", &self.prefetched_steps),
            ("requests_refused", "Requests refused because the queue was full", &self.refused),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register("request_success", "Finished requests by reason", self.finished.clone());
        registry.register(
            "batch_size_decisions",
            "Decisions of the batch-size controller",
            self.decisions.clone(),
        );
        registry.register(
            "memory_pressure_actions",
            "Actions of the memory monitor",
            self.memory_actions.clone(),
        );
        registry.register("stream_errors", "Errors in streams", self.errors.clone());
        registry.register("delivery_mode", "1 for the current delivery mode", self.modes.clone());
    }

    pub(crate) fn count_finished(&self, reason: FinishReason) {
        let finished_reason = match reason {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::Cancelled => "abort",
            FinishReason::Deadline => "deadline",
            FinishReason::Error => "error",
        };
        self.finished.get_or_create(&ReasonLabel { finished_reason }).inc();
    }

    pub(crate) fn count_decision(&self, decision: BatchDecision) {
        self.decisions.get_or_create(&DecisionLabel { decision: decision.as_str() }).inc();
    }

    pub(crate) fn count_memory_action(&self, action: MemoryAction) {
        let action = match action {
            MemoryAction::Warn => "warn",
            MemoryAction::FewerSequences => "fewer_sequences",
            MemoryAction::ShrinkCache => "shorter_caches",
            MemoryAction::UnloadIdle => "unload_idle",
            MemoryAction::Relieved => "relieved",
        };
        self.memory_actions.get_or_create(&ActionLabel { action }).inc();
    }

    pub(crate) fn count_error(&self, code: ErrorCode, recovered: bool) {
        self.errors.get_or_create(&ErrorLabel { code: code.as_str(), recovered }).inc();
    }

    pub(crate) fn set_mode(&self, mode: DeliveryMode) {
        for known in [DeliveryMode::ComputeFocused, DeliveryMode::Balanced, DeliveryMode::TransferFocused] {
            self.modes.get_or_create(&ModeLabel { mode: known.as_str() }).set(i64::from(known == mode));
        }
    }
}
