//! Reading request bodies: bounded in size and time, strict, and naming the field that is wrong.

use std::time::Duration;

use actix_web::{HttpRequest, http::header, web};
use futures::StreamExt as _;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor},
};
use videosdgx_api::{Code, NOT_ENCODED, Problem, is_encoded, media_type};

use crate::{Failure, HandlerResult};

/// Maximum size of a body in bytes; bodies with images need this much.
pub const MAX_BODY: usize = 16 * 1024 * 1024;
/// Time limit of a body; it grows by one second for each [`LEAST_BYTES_PER_SECOND`] bytes received.
const BODY_TIME: Duration = Duration::from_secs(6);
const LEAST_BYTES_PER_SECOND: usize = 64 * 1024;

/// The whole body of a request that must be JSON.
///
/// # Errors
/// 415, 413, 408 and 400, as [`read`].
pub async fn read_json(request: &HttpRequest, payload: web::Payload) -> HandlerResult<web::Bytes> {
    let is_json = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| media_type(value.to_str().ok()?))
        .is_some_and(|kind| {
            let suffix_is_json = kind.suffix().is_some_and(|suffix| suffix == "json");
            kind.type_() == "application" && (kind.subtype() == "json" || suffix_is_json)
        });
    if !is_json {
        return Err(Failure::new(Code::UnsupportedMediaType, "send the body as application/json"));
    }
    refuse_encoded(request)?;
    read(request, payload).await
}

/// Refuses a body with a content coding.
///
/// # Errors
/// 415 `unsupported_media_type`.
pub fn refuse_encoded(request: &HttpRequest) -> HandlerResult<()> {
    let mut codings = request.headers().get_all(header::CONTENT_ENCODING);
    if codings.any(|codings| codings.to_str().map_or(true, is_encoded)) {
        return Err(Failure::new(Code::UnsupportedMediaType, NOT_ENCODED));
    }
    Ok(())
}

/// The whole body.
///
/// # Errors
/// 413 `body_too_large`, 408 `request_timeout`, 400 `invalid_body`.
pub async fn read(request: &HttpRequest, mut payload: web::Payload) -> HandlerResult<web::Bytes> {
    let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    if declared.and_then(|length| length.parse::<u64>().ok()).is_some_and(|length| length > MAX_BODY as u64) {
        return Err(too_large());
    }
    let began = tokio::time::Instant::now();
    let mut body = web::BytesMut::new();
    loop {
        let seconds = u64::try_from(body.len() / LEAST_BYTES_PER_SECOND).unwrap_or(0);
        let deadline = began + BODY_TIME + Duration::from_secs(seconds);
        match tokio::time::timeout_at(deadline, payload.next()).await {
            Err(_) => return Err(Failure::new(Code::RequestTimeout, "the body came too slowly")),
            Ok(None) => return Ok(body.freeze()),
            Ok(Some(Err(error))) => {
                return Err(Failure::new(Code::InvalidBody, format!("the body cannot be read: {error}")));
            }
            Ok(Some(Ok(chunk))) if body.len() + chunk.len() > MAX_BODY => return Err(too_large()),
            Ok(Some(Ok(chunk))) => body.extend_from_slice(&chunk),
        }
    }
}

fn too_large() -> Failure {
    Failure(
        Problem::new(Code::BodyTooLarge, format!("the body is at most {MAX_BODY} bytes"))
            .with_limit(MAX_BODY),
    )
}

/// Strict JSON of one object.
///
/// # Errors
/// 400 `invalid_body`, or `invalid_field` with the field's path.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> HandlerResult<T> {
    // Serde would also accept an array for a struct.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(Failure::new(Code::InvalidBody, "the body is one JSON object"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        Failure(Problem::invalid_json(&path, error.inner()))
    })?;
    deserializer.end().map_err(|error| Failure(Problem::invalid_json(".", &error)))?;
    Ok(value)
}

/// Any JSON object, and nothing else.
#[derive(Debug)]
pub struct Object;

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Object;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Object)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use videosdgx_api::{BatchRequest, GenerateRequest};

    use super::*;

    fn problem<T: DeserializeOwned + std::fmt::Debug>(body: &str) -> Problem {
        parse::<T>(body.as_bytes()).unwrap_err().0
    }

    #[test]
    fn wrong_fields_are_named() {
        for (body, field) in [
            ("{}", "prompt"),
            (r#"{"prompt": 5}"#, "prompt"),
            (r#"{"prompt": "a", "colour": 1}"#, "colour"),
            (r#"{"prompt": "a", "prompt": "b"}"#, "prompt"),
            (r#"{"prompt": "a", "resolution": "64"}"#, "resolution"),
            (r#"{"prompt": "a", "num_frames": -1}"#, "num_frames"),
            (r#"{"prompt": "a", "num_frames": 10000000000}"#, "num_frames"),
            (r#"{"prompt": "a", "priority": 10}"#, "priority"),
            (r#"{"prompt": "a", "format": "gif"}"#, "format"),
            (r#"{"prompt": "a", "seed": 1.5}"#, "seed"),
        ] {
            let problem = problem::<GenerateRequest>(body);
            assert_eq!(problem.field.as_deref(), Some(field), "{body}: {problem}");
            assert_eq!(problem.status, 400);
            assert!(!problem.detail.contains("line 1"), "{problem}");
        }
    }

    #[test]
    fn fields_inside_a_batch_are_named_by_their_path() {
        for (body, field) in [
            (r#"{"requests": [{"prompt": "a"}, {"prompt": 5}]}"#, "requests[1].prompt"),
            (r#"{"requests": [{"prompt": "a"}, {}]}"#, "requests[1].prompt"),
            (r#"{"requests": [{"prompt": "a", "colour": 5}]}"#, "requests[0].colour"),
            ("{}", "requests"),
        ] {
            assert_eq!(problem::<BatchRequest>(body).field.as_deref(), Some(field), "{body}");
        }
    }

    #[test]
    fn what_is_no_json_object_is_an_invalid_body() {
        let deep = "[".repeat(10_000);
        for body in [
            "",
            " ",
            "{",
            "[]",
            r#"["a"]"#,
            "null",
            "nonsense",
            r#"{"prompt": "a"} x"#,
            "{\"prompt\":",
            &deep,
        ] {
            let problem = problem::<GenerateRequest>(body);
            assert_eq!(
                (problem.code.as_str(), problem.status),
                ("invalid_body", 400),
                "{body:.20}: {problem}"
            );
        }
        let deep = format!("{{\"prompt\": {}", "[".repeat(10_000));
        assert_eq!(parse::<GenerateRequest>(deep.as_bytes()).unwrap_err().0.status, 400);
    }
}
