//! What adapts an engine to its machine and its readers: pure rules over measurements, with their decisions counted.

mod batch_size;
mod latency;
mod memory;

pub use batch_size::{AdaptiveBatchSizeController, BatchDecision, BatchDecisions, BatchSizeConfig};
pub use latency::{
    ClientProfile, DeliveryMode, LatencyConfig, LowLatencyOptimizer, LowLatencyStatistics, ReaderPace,
};
pub use memory::{
    MemoryAction, MemoryPressure, MemoryPressureConfig, MemoryPressureMonitor, MemoryReading, PressureCounts,
};
