//! Which web pages may open WebSockets. Browsers do not apply CORS to WebSockets; they only send the page's `Origin`.

use actix_web::http::header::{HOST, HeaderMap, HeaderName, ORIGIN};
use url::Url;
use videosdgx_api::{Code, Problem};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Accepts clients that are not browsers, pages of the service's own origin, and the `listed` origins. Pages cannot set headers on
/// a WebSocket, so a request with `X-Forwarded-For` came through a gateway, which knows its own origin and has checked it.
pub(crate) fn check(headers: &HeaderMap, listed: &[String]) -> Result<(), Problem> {
    let mut origins = headers.get_all(ORIGIN);
    let Some(origin) = origins.next() else { return Ok(()) };
    if headers.contains_key(FORWARDED_FOR) {
        return Ok(());
    }
    let allowed = origins.next().is_none()
        && origin.to_str().is_ok_and(|origin| {
            listed.iter().any(|one| one == origin) || is_own(headers, origin).unwrap_or(false)
        });
    if allowed {
        return Ok(());
    }
    let detail =
        "pages of this origin may not open WebSockets; the operator can allow it in VIDEOSDGX_CORS_ORIGINS";
    Err(Problem::new(Code::OriginNotAllowed, detail))
}

/// Whether the page was served by the host that it connects to.
fn is_own(headers: &HeaderMap, origin: &str) -> Option<bool> {
    let origin = Url::parse(origin).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    let host = headers.get(HOST)?.to_str().ok()?;
    let own = Url::parse(&format!("{}://{host}", origin.scheme())).ok()?;
    let host_and_port = |url: &Url| (url.host_str().map(str::to_owned), url.port_or_known_default());
    Some(host_and_port(&own) == host_and_port(&origin))
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn only_own_listed_and_forwarded_origins_pass() {
        let listed = ["https://studio.example".to_owned()];
        for (origin, host, forwarded, passes) in [
            (None, "a:1", false, true),
            (Some("https://studio.example"), "a:1", false, true),
            (Some("http://a:1"), "a:1", false, true),
            (Some("https://a"), "a:443", false, true),
            (Some("http://a:2"), "a:1", false, false),
            (Some("https://studio.example.evil"), "a:1", false, false),
            (Some("null"), "a:1", false, false),
            (Some("file://a:1"), "a:1", false, false),
            (Some("https://evil.example"), "a:1", true, true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static(host));
            if let Some(origin) = origin {
                headers.insert(ORIGIN, HeaderValue::from_static(origin));
            }
            if forwarded {
                headers.insert(FORWARDED_FOR, HeaderValue::from_static("192.0.2.1"));
            }
            assert_eq!(check(&headers, &listed).is_ok(), passes, "{origin:?} at {host}");
        }
    }
}
