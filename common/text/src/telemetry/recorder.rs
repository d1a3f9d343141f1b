//! Recording of one stream.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::collector::Shared;
use super::{ErrorRecord, LatencyHistogram, SessionRecord};
use crate::{ErrorCode, FinishReason, StreamSummary, Usage};

/// Maximum number of latencies kept of a sampled stream.
const MAX_LATENCIES: usize = 512;

/// Records one stream from its submission to its end.
#[derive(Debug)]
pub struct StreamRecorder {
    shared: Arc<Shared>,
    id: String,
    sampled: bool,
    submitted_at: SystemTime,
    submitted: Instant,
    first_token: Option<Instant>,
    last_token: Instant,
    tokens: usize,
    between: LatencyHistogram,
    latencies: Vec<Duration>,
    batch_sizes: BTreeMap<usize, usize>,
    max_memory: u64,
    errors: Vec<ErrorRecord>,
}

impl StreamRecorder {
    pub(super) fn new(shared: Arc<Shared>, id: String, submitted: Instant, sampled: bool) -> Self {
        Self {
            max_memory: shared.memory(),
            shared,
            id,
            sampled,
            submitted_at: SystemTime::now(),
            submitted,
            first_token: None,
            last_token: submitted,
            tokens: 0,
            between: LatencyHistogram::default(),
            latencies: Vec::new(),
            batch_sizes: BTreeMap::new(),
            errors: Vec::new(),
        }
    }

    /// Records a token that was generated at `at` in a step with `batch_size` sequences. Returns the time since the previous token,
    /// or since submission.
    pub fn token(&mut self, at: Instant, batch_size: usize) -> Duration {
        let latency = at.saturating_duration_since(self.last_token);
        let metrics = &self.shared.metrics;
        if self.first_token.is_none() {
            self.first_token = Some(at);
            metrics.time_to_first_token.observe(latency.as_secs_f64());
        } else {
            self.between.record(latency);
            metrics.inter_token_latency.observe(latency.as_secs_f64());
        }
        metrics.generation_tokens.inc();
        self.last_token = at;
        self.tokens += 1;
        *self.batch_sizes.entry(batch_size).or_default() += 1;
        self.max_memory = self.max_memory.max(self.shared.memory());
        if self.sampled && self.latencies.len() < MAX_LATENCIES {
            self.latencies.push(latency);
        }
        latency
    }

    /// Records an error.
    pub fn error(&mut self, code: ErrorCode, recovered: bool) {
        self.errors.push(ErrorRecord { code, position: self.tokens, recovered });
        self.shared.metrics.count_error(code, recovered);
    }

    /// Number of tokens so far.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Ends the recording: returns the summary and adds the session to the collector.
    pub fn finish(self, reason: FinishReason, usage: Usage) -> StreamSummary {
        let session_duration = self.submitted.elapsed();
        let generating =
            self.first_token.map_or(Duration::ZERO, |first| self.last_token.saturating_duration_since(first));
        let rate = |tokens: usize, time: Duration| {
            if time.is_zero() { 0.0 } else { tokens as f64 / time.as_secs_f64() }
        };
        let most_common =
            self.batch_sizes.iter().max_by_key(|(_, count)| **count).map_or(0, |(batch_size, _)| *batch_size);
        let summary = StreamSummary {
            total_tokens: self.tokens,
            session_duration,
            time_to_first_token: self
                .first_token
                .map(|first| first.saturating_duration_since(self.submitted)),
            average_token_latency: self.between.mean(),
            p95_token_latency: self.between.percentile(0.95),
            average_throughput: rate(self.tokens.saturating_sub(1), generating),
            end_to_end_throughput: rate(self.tokens, session_duration),
            max_memory_bytes: self.max_memory.max(self.shared.memory()),
            error_count: self.errors.len(),
            error_rate: self.errors.len() as f64 / self.tokens.max(1) as f64,
            most_common_batch_size: most_common,
        };
        let metrics = &self.shared.metrics;
        metrics.e2e_request_latency.observe(session_duration.as_secs_f64());
        metrics.count_finished(reason);
        let record = SessionRecord {
            id: self.id,
            submitted_at: self.submitted_at,
            reason,
            usage,
            summary: summary.clone(),
            errors: self.errors,
            token_latencies: self.latencies,
        };
        self.shared.close(record);
        summary
    }
}
