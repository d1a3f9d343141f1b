//! The whole engine over a fake decoder.

mod batching;
mod crowd;
mod failures;
mod lifecycle;
mod streams;
