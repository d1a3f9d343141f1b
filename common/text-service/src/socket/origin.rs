//! Which pages may open WebSockets here. Browsers do not ask for CORS there, they only say where the page is from.

use actix_web::http::header::{HOST, HeaderMap, HeaderName, ORIGIN};
use url::Url;
use videosdgx_api::{Code, Problem};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Lets through who is no browser, pages of the service's own origin, and the listed ones. A page cannot set headers on a
/// WebSocket: what was forwarded came through a gateway, which knows its own origin and has checked this before.
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
        "pages of this origin may not open WebSockets here; the operator lists it in VIDEOSDGX_CORS_ORIGINS";
    Err(Problem::new(Code::OriginNotAllowed, detail))
}

/// Whether the page came from the host that it talks to.
fn is_own(headers: &HeaderMap, origin: &str) -> Option<bool> {
    let origin = Url::parse(origin).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    let host = headers.get(HOST)?.to_str().ok()?;
    let asked = Url::parse(&format!("{}://{host}", origin.scheme())).ok()?;
    let place = |url: &Url| (url.host_str().map(str::to_owned), url.port_or_known_default());
    Some(place(&asked) == place(&origin))
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn own_listed_and_forwarded_origins_pass_and_no_others() {
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
