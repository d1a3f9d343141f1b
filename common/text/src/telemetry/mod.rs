//! What streams took: recorded a stream and overall, kept as a history of sessions, shown to Prometheus.

mod collector;
mod history;
mod latencies;
mod metrics;
mod recorder;

pub use collector::{StreamingTelemetryCollector, TelemetryConfig, TelemetryTotals};
pub use history::{Comparison, ErrorRecord, MetricChange, SessionRecord, compare};
pub use latencies::Latencies;
pub use metrics::EngineMetrics;
pub use recorder::StreamRecorder;
