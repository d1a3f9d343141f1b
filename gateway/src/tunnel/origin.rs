//! Which pages may open WebSockets. CORS does not apply to WebSockets; browsers only send the page's origin.

use http::HeaderMap;
use http::header::{HOST, ORIGIN};
use url::Url;
use videosdgx_api::Code;

use crate::failure::Failure;

/// Admits requests without `Origin` (not from a browser), from the gateway's own origin, and from the configured ones.
pub(crate) fn check(headers: &HeaderMap, listed: &[String]) -> Result<(), Failure> {
    let mut origins = headers.get_all(ORIGIN).iter();
    let Some(origin) = origins.next() else { return Ok(()) };
    let allowed = origins.next().is_none()
        && origin
            .to_str()
            .is_ok_and(|origin| listed.iter().any(|one| one == origin) || is_own(headers, origin));
    if allowed {
        return Ok(());
    }
    let detail =
        "pages of this origin may not open WebSockets here; the operator lists it in VIDEOSDGX_CORS_ORIGINS";
    Err(Failure::new(Code::OriginNotAllowed, detail))
}

/// Whether the page's origin is the requested host.
fn is_own(headers: &HeaderMap, origin: &str) -> bool {
    let Some(origin) = Url::parse(origin).ok().filter(|url| matches!(url.scheme(), "http" | "https")) else {
        return false;
    };
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let requested = host.and_then(|host| Url::parse(&format!("{}://{host}", origin.scheme())).ok());
    requested.is_some_and(|requested| {
        (requested.host_str(), requested.port_or_known_default())
            == (origin.host_str(), origin.port_or_known_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn own_and_listed_origins_pass_and_no_others() {
        let listed = ["https://studio.example".to_owned()];
        for (origin, host, passes) in [
            (None, "gate.example", true),
            (Some("https://studio.example"), "gate.example", true),
            (Some("https://gate.example"), "gate.example", true),
            (Some("http://gate.example:80"), "GATE.example", true),
            (Some("http://127.0.0.1:8080"), "127.0.0.1:8080", true),
            (Some("http://[::1]:8080"), "[::1]:8080", true),
            (Some("http://127.0.0.1:8081"), "127.0.0.1:8080", false),
            (Some("https://studio.example.evil"), "gate.example", false),
            (Some("http://studio.example"), "gate.example", false),
            (Some("https://evil.example"), "gate.example", false),
            (Some("null"), "gate.example", false),
            (Some("file://"), "gate.example", false),
            (Some(""), "gate.example", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static(host));
            if let Some(origin) = origin {
                headers.insert(ORIGIN, HeaderValue::from_static(origin));
            }
            assert_eq!(check(&headers, &listed).is_ok(), passes, "{origin:?} at {host}");
        }
        let mut two = HeaderMap::new();
        two.append(ORIGIN, HeaderValue::from_static("https://studio.example"));
        two.append(ORIGIN, HeaderValue::from_static("https://studio.example"));
        assert!(check(&two, &listed).is_err());
    }
}
