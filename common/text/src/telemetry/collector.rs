//! Totals and history of all streams.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::registry::Registry;

use super::{Comparison, EngineMetrics, LatencyHistogram, SessionRecord, StreamRecorder, compare};

/// Configuration of a [`StreamingTelemetryCollector`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TelemetryConfig {
    /// Share of streams whose individual token latencies are kept, 0 to 1 (default: 1). Totals and histograms include all streams.
    pub sampling: f64,
    /// Number of sessions that are kept (default: 512).
    pub history: usize,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { sampling: 1.0, history: 512 }
    }
}

/// Totals over all sessions that ended.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TelemetryTotals {
    /// Number of sessions.
    pub sessions: u64,
    /// Number of output tokens.
    pub tokens: u64,
    /// Number of errors, recovered ones included.
    pub errors: u64,
    /// Number of recovered errors.
    pub recovered_errors: u64,
    /// Mean time to the first token.
    pub average_time_to_first_token: Duration,
    /// 95th percentile of the time to the first token.
    pub p95_time_to_first_token: Duration,
    /// Mean over sessions of the mean time between tokens.
    pub average_token_latency: Duration,
    /// 95th percentile of the sessions' means.
    pub p95_token_latency: Duration,
    /// Mean over sessions of output tokens per second.
    pub average_throughput: f64,
    /// Highest resident memory of the process, bytes.
    pub max_memory_bytes: u64,
}

/// Collects latencies, throughput and errors of streams, recorded by a [`StreamRecorder`] each. Clones are handles to the same
/// collector.
///
/// ```
/// use std::time::{Duration, Instant};
/// use videosdgx_text::{FinishReason, Usage, telemetry::StreamingTelemetryCollector};
///
/// let collector = StreamingTelemetryCollector::default();
/// let submitted = Instant::now();
/// let mut recorder = collector.open("request-1", submitted);
/// recorder.token(submitted + Duration::from_millis(30), 1);
/// let summary = recorder.finish(FinishReason::Stop, Usage::default());
/// assert_eq!(summary.time_to_first_token, Some(Duration::from_millis(30)));
/// assert_eq!(collector.totals().sessions, 1);
/// ```
#[derive(Debug, Clone)]
pub struct StreamingTelemetryCollector(Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) metrics: EngineMetrics,
    config: TelemetryConfig,
    memory: AtomicU64,
    max_memory: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    opened: u64,
    sessions: u64,
    tokens: u64,
    errors: u64,
    recovered: u64,
    first_tokens: LatencyHistogram,
    token_means: LatencyHistogram,
    throughput: f64,
    throughputs: u64,
    history: VecDeque<SessionRecord>,
}

impl Default for StreamingTelemetryCollector {
    fn default() -> Self {
        Self::new(TelemetryConfig::default())
    }
}

impl StreamingTelemetryCollector {
    /// A collector without sessions.
    #[must_use]
    pub fn new(config: TelemetryConfig) -> Self {
        Self(Arc::new(Shared {
            metrics: EngineMetrics::new(),
            config,
            memory: AtomicU64::new(0),
            max_memory: AtomicU64::new(0),
            state: Mutex::default(),
        }))
    }

    /// Starts the recording of a stream.
    #[must_use]
    pub fn open(&self, id: &str, submitted: Instant) -> StreamRecorder {
        let sampled = {
            let mut state = self.0.lock();
            state.opened += 1;
            // Evenly distributed: the n-th stream is sampled when n · rate passes an integer.
            let rate = self.0.config.sampling.clamp(0.0, 1.0);
            (state.opened as f64 * rate).floor() > ((state.opened - 1) as f64 * rate).floor()
        };
        StreamRecorder::new(Arc::clone(&self.0), id.to_owned(), submitted, sampled)
    }

    /// Records the resident memory of the process, bytes.
    pub fn record_memory(&self, resident: u64) {
        self.0.memory.store(resident, Ordering::Relaxed);
        self.0.max_memory.fetch_max(resident, Ordering::Relaxed);
    }

    /// The Prometheus metrics.
    #[must_use]
    pub fn metrics(&self) -> &EngineMetrics {
        &self.0.metrics
    }

    /// Adds the metrics to a registry, which should have the prefix `videosdgx`.
    pub fn register(&self, registry: &mut Registry) {
        self.0.metrics.register(registry);
    }

    /// Totals over all sessions that ended.
    #[must_use]
    pub fn totals(&self) -> TelemetryTotals {
        let state = self.0.lock();
        TelemetryTotals {
            sessions: state.sessions,
            tokens: state.tokens,
            errors: state.errors,
            recovered_errors: state.recovered,
            average_time_to_first_token: state.first_tokens.mean(),
            p95_time_to_first_token: state.first_tokens.percentile(0.95),
            average_token_latency: state.token_means.mean(),
            p95_token_latency: state.token_means.percentile(0.95),
            average_throughput: state.throughput / state.throughputs.max(1) as f64,
            max_memory_bytes: self.0.max_memory.load(Ordering::Relaxed),
        }
    }

    /// The latest sessions that ended, oldest first.
    #[must_use]
    pub fn history(&self) -> Vec<SessionRecord> {
        self.0.lock().history.iter().cloned().collect()
    }

    /// Compares the latest `recent` sessions with those before them; see [`Comparison::regressions`].
    #[must_use]
    pub fn compare_recent(&self, recent: usize) -> Comparison {
        let history = self.history();
        let (baseline, current) = history.split_at(history.len().saturating_sub(recent));
        compare(baseline, current)
    }
}

impl Shared {
    pub(super) fn memory(&self) -> u64 {
        self.memory.load(Ordering::Relaxed)
    }

    pub(super) fn close(&self, record: SessionRecord) {
        let mut state = self.lock();
        state.sessions += 1;
        state.tokens += record.summary.total_tokens as u64;
        state.errors += record.errors.len() as u64;
        state.recovered += record.errors.iter().filter(|error| error.recovered).count() as u64;
        if let Some(first) = record.summary.time_to_first_token {
            state.first_tokens.record(first);
        }
        if record.summary.total_tokens > 1 {
            state.token_means.record(record.summary.average_token_latency);
            state.throughput += record.summary.average_throughput;
            state.throughputs += 1;
        }
        state.history.push_back(record);
        while state.history.len() > self.config.history {
            state.history.pop_front();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorCode, FinishReason, Usage};

    fn run(collector: &StreamingTelemetryCollector, tokens: u64, gap: Duration) -> crate::StreamSummary {
        let begun = Instant::now();
        let mut recorder = collector.open("a", begun);
        for token in 0..tokens {
            let at = begun + Duration::from_millis(40) + gap * u32::try_from(token).unwrap();
            recorder.token(at, 1 + usize::from(token > 2));
        }
        recorder.error(ErrorCode::StepFailed, true);
        recorder.finish(FinishReason::Stop, Usage::default())
    }

    #[test]
    fn a_summary_has_the_sessions_figures() {
        let collector = StreamingTelemetryCollector::default();
        collector.record_memory(1000);
        let summary = run(&collector, 11, Duration::from_millis(20));
        assert_eq!(summary.total_tokens, 11);
        assert_eq!(summary.time_to_first_token, Some(Duration::from_millis(40)));
        assert_eq!(summary.average_token_latency, Duration::from_millis(20));
        assert!((summary.p95_token_latency.as_secs_f64() / 0.020 - 1.0).abs() < 0.025);
        assert!((summary.average_throughput - 50.0).abs() < 1e-6);
        assert_eq!((summary.error_count, summary.most_common_batch_size), (1, 2));
        assert_eq!(summary.max_memory_bytes, 1000);
        let totals = collector.totals();
        assert_eq!((totals.sessions, totals.tokens, totals.recovered_errors), (1, 11, 1));
        assert_eq!(collector.history()[0].errors[0].position, 11);
        assert_eq!(collector.history()[0].token_latencies.len(), 11);
    }

    #[test]
    fn sampling_is_even_and_history_is_bounded() {
        let collector = StreamingTelemetryCollector::new(TelemetryConfig { sampling: 0.25, history: 8 });
        for _ in 0..16 {
            run(&collector, 2, Duration::from_millis(1));
        }
        let history = collector.history();
        assert_eq!(history.len(), 8);
        assert_eq!(history.iter().filter(|session| !session.token_latencies.is_empty()).count(), 2);
        assert_eq!(collector.totals().sessions, 16);
    }

    #[test]
    fn a_slower_half_is_a_regression() {
        let collector = StreamingTelemetryCollector::default();
        for session in 0..40_u64 {
            run(&collector, 5, Duration::from_millis(if session < 20 { 10 } else { 30 }));
        }
        let worse = collector.compare_recent(20).regressions();
        assert_eq!(worse, ["token_latency", "p95_token_latency", "throughput"]);
    }

    #[test]
    fn metrics_have_vllms_names_with_our_prefix() {
        let collector = StreamingTelemetryCollector::default();
        let mut registry = Registry::with_prefix("videosdgx");
        collector.register(&mut registry);
        run(&collector, 3, Duration::from_millis(20));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "videosdgx_time_to_first_token_seconds_count 1",
            "videosdgx_inter_token_latency_seconds_count 2",
            "videosdgx_e2e_request_latency_seconds_count 1",
            "videosdgx_num_requests_running 0",
            "videosdgx_num_requests_waiting 0",
            "videosdgx_kv_cache_usage_perc 0.0",
            "videosdgx_prefix_cache_queries_total 0",
            "videosdgx_prefix_cache_hits_total 0",
            "videosdgx_prompt_tokens_total 0",
            "videosdgx_generation_tokens_total 3",
            "videosdgx_num_preemptions_total 0",
            "videosdgx_request_success_total{finished_reason=\"stop\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
