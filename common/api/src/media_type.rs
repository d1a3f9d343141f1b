//! Media types in HTTP headers.

use mime::Mime;

/// The media type in a `Content-Type` header; `None` when there is none. Parameters that cannot be parsed are dropped:
/// the `mime` crate refuses a space before `;`, which RFC 9110 allows.
///
/// ```
/// let media_type = videosdgx_api::media_type("Application/JSON ; charset=utf-8").unwrap();
/// assert_eq!(media_type.essence_str(), "application/json");
/// ```
#[must_use]
pub fn media_type(header: &str) -> Option<Mime> {
    let header = header.trim();
    let without_parameters = || header.split_once(';')?.0.trim().parse().ok();
    header.parse().ok().or_else(without_parameters)
}

/// The media ranges in an `Accept` header, in their order. Ranges that cannot be parsed are skipped.
pub fn accepted_media_types(header: &str) -> impl Iterator<Item = Mime> {
    header.split(',').filter_map(media_type)
}

/// The detail of the refusal of a body with a content coding.
pub const NOT_ENCODED: &str = "send the body without a content encoding";

/// Whether a `Content-Encoding` header names a coding of the body: anything but `identity`.
///
/// ```
/// assert!(videosdgx_api::is_encoded("gzip") && !videosdgx_api::is_encoded("identity"));
/// ```
#[must_use]
pub fn is_encoded(header: &str) -> bool {
    let mut codings = header.split(',').map(str::trim).filter(|coding| !coding.is_empty());
    codings.any(|coding| !coding.eq_ignore_ascii_case("identity"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_is_no_coding() {
        for (header, encoded) in [
            ("gzip", true),
            ("identity, br", true),
            ("x", true),
            ("Identity", false),
            ("", false),
            (" , ", false),
        ] {
            assert_eq!(is_encoded(header), encoded, "{header:?}");
        }
    }

    #[test]
    fn the_essence_is_in_lower_case_and_without_parameters() {
        for (header, essence) in [
            ("application/json", Some("application/json")),
            (" Application/JSON ; charset=utf-8", Some("application/json")),
            ("application/json; charset=\"", Some("application/json")),
            ("application/json;", Some("application/json")),
            ("multipart/form-data; boundary=b", Some("multipart/form-data")),
            ("application/problem+json", Some("application/problem+json")),
            ("", None),
            ("nonsense", None),
        ] {
            let found = media_type(header);
            assert_eq!(found.as_ref().map(Mime::essence_str), essence, "{header}");
        }
    }

    #[test]
    fn accept_lists_are_read_in_order() {
        let accept = "text/plain;version=0.0.4;q=0.5, nonsense, application/json , */*;q=0.1";
        let essences: Vec<String> =
            accepted_media_types(accept).map(|kind| kind.essence_str().to_owned()).collect();
        assert_eq!(essences, ["text/plain", "application/json", "*/*"]);
    }
}
