//! Continuous processing of many prompts on one or several engines, with bounded concurrency, priorities and streamed results.

mod engine;
mod manager;
mod prompts;
mod request;
mod slots;
mod stream;
#[cfg(test)]
mod tests;

pub use engine::{StreamingComputationEngine, StreamingConfig, StreamingStatistics, create_streaming_engine};
pub use manager::{StreamingComputationManager, setup_streaming_computation};
pub use prompts::Prompts;
pub use request::{GenerateOptions, StreamInput, StreamOutcome, StreamRequest, StreamResult};
pub use stream::GenerateStream;
