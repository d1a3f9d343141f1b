//! Headers that tell browsers to guess no content types, to keep no copies, and to name no addresses to other sites.

use http::header::{CACHE_CONTROL, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue};

/// Sets the headers that the response does not have yet: services and pages may choose others, for example `no-cache`.
pub(crate) fn set(headers: &mut HeaderMap) {
    for (name, value) in
        [(X_CONTENT_TYPE_OPTIONS, "nosniff"), (REFERRER_POLICY, "no-referrer"), (CACHE_CONTROL, "no-store")]
    {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}
