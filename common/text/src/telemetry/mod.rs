//! Telemetry of streams: recorded per stream and in total, kept as a history of sessions, exported to Prometheus.

mod collector;
mod history;
mod latencies;
mod metrics;
mod recorder;

pub use collector::{StreamingTelemetryCollector, TelemetryConfig, TelemetryTotals};
pub use history::{Comparison, ErrorRecord, MetricChange, SessionRecord, compare};
pub use latencies::LatencyHistogram;
pub use metrics::EngineMetrics;
pub use recorder::StreamRecorder;
