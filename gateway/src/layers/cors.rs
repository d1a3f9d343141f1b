//! Cross-origin requests of browsers.

use axum::extract::Request;
use axum::response::Response;
use http::header::ACCESS_CONTROL_ALLOW_HEADERS;
use http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::request_id::REQUEST_ID;

/// Headers that pages may send.
const ALLOWED: [HeaderName; 9] = [
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    header::ACCEPT,
    header::RANGE,
    header::IF_RANGE,
    header::IF_NONE_MATCH,
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("last-event-id"),
    REQUEST_ID,
];
/// Beginnings of the headers that OpenAI's client libraries add to each request.
const ALLOWED_PREFIXES: [&str; 2] = ["x-stainless-", "openai-"];

/// Allows pages of these origins to read responses. `None` without origins: then no page may. Use it inside
/// [`keep_allowed_headers`].
pub(crate) fn layer(origins: &[String]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let origins: Vec<HeaderValue> =
        origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect();
    let layer = CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::DELETE])
        // All that the page asks for; `keep_allowed_headers` removes the others, since this layer knows no prefixes.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([
            REQUEST_ID,
            header::RETRY_AFTER,
            header::LOCATION,
            header::ETAG,
            header::CONTENT_RANGE,
            header::CONTENT_DISPOSITION,
            header::ACCEPT_RANGES,
        ])
        .max_age(std::time::Duration::from_secs(3600));
    Some(layer)
}

/// Keeps those headers in the answer to a preflight request that pages may send.
pub(crate) async fn keep_allowed_headers(request: Request, next: axum::middleware::Next) -> Response {
    let mut response = next.run(request).await;
    if let Some(asked) = response.headers_mut().remove(ACCESS_CONTROL_ALLOW_HEADERS)
        && let Some(allowed) = allowed_of(&asked)
    {
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    }
    response
}

/// The allowed ones of a list of header names.
fn allowed_of(asked: &HeaderValue) -> Option<HeaderValue> {
    let names = asked.to_str().ok()?.split(',').map(|name| name.trim().to_ascii_lowercase());
    let allowed = names.filter(|name| {
        ALLOWED.iter().any(|known| known == name.as_str())
            || ALLOWED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    });
    let allowed = allowed.collect::<Vec<_>>().join(",");
    if allowed.is_empty() { None } else { HeaderValue::try_from(allowed).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_clients_are_allowed_and_no_others() {
        for (asked, allowed) in [
            ("authorization, X-Stainless-Lang", Some("authorization,x-stainless-lang")),
            ("openai-organization,openai-beta", Some("openai-organization,openai-beta")),
            ("x-forwarded-for, cookie, range", Some("range")),
            ("x-stainless", None),
            ("*", None),
            ("", None),
        ] {
            let kept = allowed_of(&HeaderValue::from_static(asked));
            assert_eq!(kept.as_ref().map(|kept| kept.to_str().unwrap()), allowed, "{asked}");
        }
    }
}
