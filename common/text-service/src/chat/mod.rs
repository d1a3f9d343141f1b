//! Chat completions: requests, responses, and chunks of streamed responses.

pub(crate) mod chunks;
pub(crate) mod request;
pub(crate) mod response;
