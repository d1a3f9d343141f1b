//! The engine: takes requests, runs steps of many sequences on the loader's inference thread, and hands out streams of events.
//!
//! Three places work together and share one small lock: callers submit and read ([`TextEngine`], [`TokenStream`]); the inference
//! thread plans, computes and samples in bursts; the delivery thread turns tokens into text and events while the next step
//! is computed already. Nothing spins when nothing is to do, and nothing is loaded before the first request.

mod compute;
mod config;
mod core;
mod delivery;
mod driver;
mod error;
mod handle;
mod language;
mod pressure;
mod sequence_state;
mod shared;
mod snapshot;
mod step_loop;
mod stream;
#[cfg(test)]
mod tests;
mod validate;

pub use config::{EngineConfig, EngineHooks, KvCacheSize, PrefixSharing, StreamOptions};
pub use error::SubmitError;
pub use handle::TextEngine;
pub use language::{Language, TextDecoder, TextPiece, TokenMask, TokenMatcher};
pub use snapshot::{CacheUsage, EngineSnapshot};
pub use stream::TokenStream;
