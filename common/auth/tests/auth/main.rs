//! Identity from outside: which tokens pass, where keys come from.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bad_tokens;
#[cfg(feature = "http")]
mod http_fetcher;
mod key_sources;
mod tokens;
