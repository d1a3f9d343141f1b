//! Headers that concern one connection only and are not forwarded.

use http::header::CONNECTION;
use http::{HeaderMap, HeaderName};
use smallvec::SmallVec;

fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// `Host` (the service has its own), `Expect` (answered by the gateway) and statements about the client's address (set by the
/// gateway).
fn is_set_by_gateway(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "host"
            | "expect"
            | "forwarded"
            | "x-forwarded-for"
            | "x-forwarded-host"
            | "x-forwarded-proto"
            | "x-real-ip"
    )
}

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
    named.iter().for_each(|name| drop(headers.remove(name)));
    remove(headers, is_hop_by_hop);
}

/// Removes from a request, besides hop-by-hop headers, those that the gateway sets itself.
pub(crate) fn strip_request(headers: &mut HeaderMap) {
    strip(headers);
    remove(headers, is_set_by_gateway);
}

/// Looking at the few headers that are there is quicker than looking for each of those that may be.
fn remove(headers: &mut HeaderMap, unwanted: fn(&HeaderName) -> bool) {
    let found: SmallVec<[HeaderName; 4]> = headers.keys().filter(|name| unwanted(name)).cloned().collect();
    found.iter().for_each(|name| drop(headers.remove(name)));
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
