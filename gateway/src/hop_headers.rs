//! Headers that concern one connection only and are not forwarded.

use http::header::{CONNECTION, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName};

const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    http::header::PROXY_AUTHENTICATE,
    http::header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Headers that a `Connection` header cannot remove: they carry the caller's identity and describe the body.
fn is_protected(name: &HeaderName) -> bool {
    use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, RANGE};
    [AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, RANGE].contains(name)
        || matches!(name.as_str(), "x-forwarded-for" | "x-request-id")
}

/// Removes hop-by-hop headers (RFC 9110 section 7.6.1), including those that `Connection` names.
pub(crate) fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse::<HeaderName>().ok())
        .filter(|name| !is_protected(name))
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Removes from a request, besides hop-by-hop headers, `Host` (the service has its own), `Expect` (answered by the
/// gateway) and statements about the client's address (set by the gateway).
pub(crate) fn strip_request(headers: &mut HeaderMap) {
    strip(headers);
    let set_by_gateway =
        ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"];
    for name in set_by_gateway.map(HeaderName::from_static).iter().chain(&[HOST, EXPECT]) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn headers_named_by_connection_are_removed_except_protected_ones() {
        let mut headers = map(&[
            ("connection", "close, X-Secret"),
            ("connection", "x-other , authorization, x-request-id, content-length"),
            ("x-secret", "1"),
            ("x-other", "1"),
            ("x-kept", "1"),
            ("authorization", "Bearer t"),
            ("x-request-id", "r"),
            ("content-length", "3"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("proxy-authorization", "x"),
        ]);
        strip(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["authorization", "content-length", "x-kept", "x-request-id"]);
    }

    #[test]
    fn a_request_cannot_set_its_client_address() {
        let mut headers = map(&[
            ("host", "evil"),
            ("x-forwarded-for", "1.2.3.4"),
            ("forwarded", "for=1.2.3.4"),
            ("x-real-ip", "1.2.3.4"),
            ("expect", "100-continue"),
            ("accept", "*/*"),
        ]);
        strip_request(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
    }
}
