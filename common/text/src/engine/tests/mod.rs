//! Tests of the engine with a fake decoder.

mod batching;
mod crowd;
mod failures;
mod lifecycle;
mod streams;
