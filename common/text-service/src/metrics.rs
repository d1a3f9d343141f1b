//! Metrics of a text service's connections; those of its generations come from the engine's telemetry.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use videosdgx_shell::ShellMetrics;
use videosdgx_text::FinishReason;

/// Gauges and counters of the connections, and how generations ended.
#[derive(Debug, Clone)]
pub(crate) struct TextMetrics {
    /// Open WebSockets.
    pub(crate) sockets: Gauge,
    /// Streams whose client lost its connection and may resume; set when `/metrics` is read.
    pub(crate) kept_streams: Gauge,
    /// Streams that were resumed on a new connection.
    pub(crate) resumed: Counter,
    outcomes: Arc<[AtomicU64; 3]>,
}

/// Numbers of generations that ended since the process started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcomes {
    pub(crate) successful: u64,
    pub(crate) failed: u64,
    pub(crate) cancelled: u64,
}

impl TextMetrics {
    /// Metrics registered with the shell's.
    pub(crate) fn new(shell: &ShellMetrics) -> Self {
        let metrics = Self {
            sockets: Gauge::default(),
            kept_streams: Gauge::default(),
            resumed: Counter::default(),
            outcomes: Arc::default(),
        };
        shell.add(|registry| {
            registry.register("websockets", "Open WebSockets", metrics.sockets.clone());
            registry.register(
                "kept_streams",
                "Streams kept for a client that lost its connection",
                metrics.kept_streams.clone(),
            );
            registry.register(
                "streams_resumed",
                "Streams resumed on a new connection",
                metrics.resumed.clone(),
            );
        });
        metrics
    }

    /// Counts a generation that ended.
    pub(crate) fn count_end(&self, reason: FinishReason) {
        let [successful, failed, cancelled] = &*self.outcomes;
        let count = match reason {
            FinishReason::Stop | FinishReason::Length => successful,
            FinishReason::Error | FinishReason::Deadline => failed,
            FinishReason::Cancelled => cancelled,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn outcomes(&self) -> Outcomes {
        let [successful, failed, cancelled] =
            [0, 1, 2].map(|which| self.outcomes[which].load(Ordering::Relaxed));
        Outcomes { successful, failed, cancelled }
    }
}
