//! Identity from outside: which tokens pass, where keys come from.

mod bad_tokens;
#[cfg(feature = "http")]
mod http_fetcher;
mod key_sources;
mod tokens;
