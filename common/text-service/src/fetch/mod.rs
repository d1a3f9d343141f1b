//! Pictures from addresses that clients name, without becoming their way into this machine's network.
//!
//! Off unless the operator allows it. A name is resolved once; unless each of its addresses is a public one nothing is connected
//! to, and the connection goes to exactly the addresses that were checked, so a second answer of the name server changes nothing.
//! Redirects are followed by the same rules.

mod address;
mod error;
mod fetcher;
mod resolve;

pub(crate) use address::is_public;
pub(crate) use error::FetchError;
pub(crate) use fetcher::{FetchLimits, ImageFetcher};
