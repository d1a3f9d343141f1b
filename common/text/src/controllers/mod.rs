//! Controllers that adapt the engine to its machine and its readers: pure functions of measurements, with counted decisions.

mod batch_size;
mod latency;
mod memory;

pub use batch_size::{AdaptiveBatchSizeController, BatchDecision, BatchDecisions, BatchSizeConfig};
pub use latency::{DeliveryMode, LatencyConfig, LowLatencyOptimizer, LowLatencyStatistics};
pub use memory::{
    MemoryAction, MemoryPressure, MemoryPressureConfig, MemoryPressureMonitor, MemoryReading, PressureCounts,
};
