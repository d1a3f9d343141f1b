//! The engine: accepts requests, computes steps of many sequences on the loader's inference thread, and returns streams of
//! events.
//!
//! Three kinds of threads share one lock. Callers submit requests and read events ([`TextEngine`], [`TokenStream`]). The inference
//! thread plans, computes and samples in a step loop. The delivery thread turns tokens into text and events while the next step
//! is computed. All threads sleep while there is no work, and the model is loaded on the first request.

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
