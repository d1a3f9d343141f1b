//! Records of sessions that ended, and their comparison.

use std::time::{Duration, SystemTime};

use crate::{ErrorCode, FinishReason, StreamSummary, Usage};

/// A stream that ended.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionRecord {
    /// The request's id.
    pub id: String,
    /// When it was submitted.
    pub submitted_at: SystemTime,
    /// Why it ended.
    pub reason: FinishReason,
    /// Numbers of tokens.
    pub usage: Usage,
    /// Latencies, throughput and memory.
    pub summary: StreamSummary,
    /// Errors during the stream.
    pub errors: Vec<ErrorRecord>,
    /// Latencies of the first tokens in order, at most 512; empty when the stream was not sampled.
    pub token_latencies: Vec<Duration>,
}

/// An error during a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorRecord {
    /// Code of the error.
    pub code: ErrorCode,
    /// Number of output tokens before the error.
    pub position: usize,
    /// Whether the stream continued.
    pub recovered: bool,
}

/// Comparison of two groups of sessions.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Number of sessions of the earlier group.
    pub baseline_sessions: usize,
    /// Number of sessions of the later group.
    pub current_sessions: usize,
    /// Median time to the first token, seconds.
    pub time_to_first_token: MetricChange,
    /// Median of the sessions' mean time between tokens, seconds.
    pub token_latency: MetricChange,
    /// Median of the sessions' p95 time between tokens, seconds.
    pub p95_token_latency: MetricChange,
    /// Median output tokens per second.
    pub throughput: MetricChange,
    /// Errors per token over the whole group.
    pub error_rate: MetricChange,
}

impl Comparison {
    /// Names of the metrics that have become worse: times above 1.2 times the baseline, throughput below 1 / 1.2 of it, or an
    /// error rate that is higher by more than 0.001. Empty if a group has fewer than 10 sessions.
    #[must_use]
    pub fn regressions(&self) -> Vec<&'static str> {
        const MIN_SESSIONS: usize = 10;
        const WORSE: f64 = 1.2;
        const MORE_ERRORS: f64 = 0.001;
        if self.baseline_sessions.min(self.current_sessions) < MIN_SESSIONS {
            return Vec::new();
        }
        let slower =
            |change: &MetricChange| change.baseline > 0.0 && change.current > change.baseline * WORSE;
        let mut worse = Vec::new();
        for (name, change) in [
            ("time_to_first_token", &self.time_to_first_token),
            ("token_latency", &self.token_latency),
            ("p95_token_latency", &self.p95_token_latency),
        ] {
            if slower(change) {
                worse.push(name);
            }
        }
        if self.throughput.current * WORSE < self.throughput.baseline {
            worse.push("throughput");
        }
        if self.error_rate.current > self.error_rate.baseline + MORE_ERRORS {
            worse.push("error_rate");
        }
        worse
    }
}

/// One metric in two groups.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct MetricChange {
    /// Value in the earlier group.
    pub baseline: f64,
    /// Value in the later group.
    pub current: f64,
}

/// Compares two groups of sessions. Sessions with fewer than two tokens count only for errors and the time to the first token.
#[must_use]
pub fn compare(baseline: &[SessionRecord], current: &[SessionRecord]) -> Comparison {
    let change = |figure: fn(&SessionRecord) -> Option<f64>| MetricChange {
        baseline: median(baseline.iter().filter_map(figure)),
        current: median(current.iter().filter_map(figure)),
    };
    Comparison {
        baseline_sessions: baseline.len(),
        current_sessions: current.len(),
        time_to_first_token: change(|session| {
            session.summary.time_to_first_token.map(|time| time.as_secs_f64())
        }),
        token_latency: change(|session| {
            with_tokens(session, session.summary.average_token_latency.as_secs_f64())
        }),
        p95_token_latency: change(|session| {
            with_tokens(session, session.summary.p95_token_latency.as_secs_f64())
        }),
        throughput: change(|session| with_tokens(session, session.summary.average_throughput)),
        error_rate: MetricChange { baseline: error_rate(baseline), current: error_rate(current) },
    }
}

/// The value of a metric that needs at least two tokens.
fn with_tokens(session: &SessionRecord, figure: f64) -> Option<f64> {
    (session.summary.total_tokens > 1).then_some(figure)
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = figures.collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

fn error_rate(sessions: &[SessionRecord]) -> f64 {
    let errors: usize = sessions.iter().map(|session| session.summary.error_count).sum();
    let tokens: usize = sessions.iter().map(|session| session.summary.total_tokens).sum();
    errors as f64 / tokens.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions(count: usize, latency_ms: u64, errors: usize) -> Vec<SessionRecord> {
        let summary = StreamSummary {
            total_tokens: 100,
            time_to_first_token: Some(Duration::from_millis(50)),
            average_token_latency: Duration::from_millis(latency_ms),
            p95_token_latency: Duration::from_millis(latency_ms * 2),
            average_throughput: 1e3 / latency_ms as f64,
            error_count: errors,
            ..StreamSummary::default()
        };
        let session = SessionRecord {
            id: "a".to_owned(),
            submitted_at: SystemTime::UNIX_EPOCH,
            reason: FinishReason::Stop,
            usage: Usage::default(),
            summary,
            errors: Vec::new(),
            token_latencies: Vec::new(),
        };
        vec![session; count]
    }

    #[test]
    fn slower_tokens_and_more_errors_are_found() {
        let comparison = compare(&sessions(20, 20, 0), &sessions(20, 30, 1));
        assert_eq!(
            comparison.regressions(),
            ["token_latency", "p95_token_latency", "throughput", "error_rate"]
        );
    }

    #[test]
    fn small_changes_and_small_groups_say_nothing() {
        assert!(compare(&sessions(20, 20, 0), &sessions(20, 23, 0)).regressions().is_empty());
        assert!(compare(&sessions(9, 20, 0), &sessions(20, 90, 0)).regressions().is_empty());
        assert!(compare(&[], &[]).regressions().is_empty());
    }
}
