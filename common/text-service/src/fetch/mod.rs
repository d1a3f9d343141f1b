//! Fetches pictures from URLs that clients send, without giving clients access to this machine's network (server-side request
//! forgery).
//!
//! Disabled by default. A host name is resolved once. If any of its addresses is not public, the fetch is refused; otherwise the
//! connection uses exactly the checked addresses, so that a different answer of the name server (DNS rebinding) has no effect.
//! Redirects are checked in the same way.

mod address;
mod error;
mod fetcher;
mod resolve;

pub(crate) use address::is_public;
pub(crate) use error::FetchError;
pub(crate) use fetcher::{FetchLimits, ImageFetcher};
