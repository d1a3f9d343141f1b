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

/// Headers that a `Connection` header may not take away: they say who asks and how long the body is.
fn is_protected(name: &HeaderName) -> bool {
    use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, RANGE};
    [AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, RANGE].contains(name)
        || matches!(name.as_str(), "x-forwarded-for" | "x-request-id")
}

/// Takes away what is meant for one connection only (RFC 9110 section 7.6.1), also what `Connection` names.
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

/// What a request loses on its way to the service beside hop-by-hop headers: `Host` is the service's, `Expect` has
/// been answered here, and claims of where it came from are made anew.
pub(crate) fn strip_request(headers: &mut HeaderMap) {
    strip(headers);
    let made_here = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"];
    for name in made_here.map(HeaderName::from_static).iter().chain(&[HOST, EXPECT]) {
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
    fn connection_names_are_stripped_over_several_lines_but_never_identity() {
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
    fn a_request_cannot_say_where_it_came_from() {
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
