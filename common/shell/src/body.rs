//! Reading request bodies: bounded in size and time, strict, and naming the field that is wrong.

use std::{ops::Deref, time::Duration};

use actix_web::{HttpRequest, http::header, web};
use futures::StreamExt as _;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor},
};
use tokio::time::{Instant, timeout_at};
use videosdgx_api::{Code, NOT_ENCODED, Principal, Problem, is_encoded, media_type};
use videosdgx_connection::{BodyBudget, BodyLease, BudgetExceeded, Pace};

use crate::{Failure, HandlerResult, ServiceConfig, Shell, run_blocking};

/// Maximum size of a body in bytes; bodies with images need this much.
pub const MAX_BODY: usize = 16 * 1024 * 1024;
/// A window of the pace of a body; also its longest silence.
const WINDOW: Duration = Duration::from_secs(5);
/// Bytes that must come in every window: 64 KiB/s.
const BYTES_PER_WINDOW: u64 = 5 * 64 * 1024;
/// Time limit of a whole body.
const TOTAL: Duration = Duration::from_secs(300);
/// Bodies up to this size are parsed where they were read; larger ones on the threads for blocking work.
pub const PARSED_AT_ONCE: usize = 64 * 1024;

/// The bytes of bodies that the service holds, limited in total and per principal.
#[derive(Debug)]
pub struct HeldBodies(std::sync::Arc<BodyBudget>);

impl HeldBodies {
    pub(crate) fn new(config: &ServiceConfig) -> Self {
        Self(BodyBudget::new(config.held_bodies, config.held_bodies_per_principal))
    }

    /// Bytes held now.
    #[must_use]
    pub fn held(&self) -> usize {
        self.0.held()
    }

    /// A lease of no bytes yet for a body of `principal`.
    #[must_use]
    pub fn lease(&self, principal: &Principal) -> BodyLease {
        self.0.lease(principal.shared())
    }
}

/// The pace that every body must keep.
#[must_use]
pub fn pace() -> Pace {
    Pace::new(Instant::now(), WINDOW, BYTES_PER_WINDOW, TOTAL)
}

/// Grows a lease to `bytes`.
///
/// # Errors
/// 429 `rate_limited` when the principal holds too much, 503 `overloaded` when all principals together do.
pub fn hold(lease: &mut BodyLease, bytes: usize) -> HandlerResult<()> {
    lease.grow_to(bytes).map_err(|exceeded| {
        let (code, detail, limit) = match exceeded {
            BudgetExceeded::Principal(limit) => {
                (Code::RateLimited, "you send too many large requests at once, wait", limit)
            }
            BudgetExceeded::Total(limit) => {
                (Code::Overloaded, "too many large requests at once, try again", limit)
            }
        };
        Failure(Problem::new(code, detail).with_limit(limit).with_retry_after(1))
    })
}

/// A body, whose bytes count as held until it is dropped.
#[derive(Debug)]
pub struct Body {
    bytes: web::Bytes,
    lease: BodyLease,
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Body {
    /// Parses the body as [`parse`], a large one off the threads that serve. What it was parsed to counts as held as long as
    /// the lease exists.
    ///
    /// # Errors
    /// As [`parse`].
    pub async fn parse<T: DeserializeOwned + Send + 'static>(self) -> HandlerResult<(T, BodyLease)> {
        self.parse_with(parse).await
    }

    /// As [`Body::parse`], with another parser.
    ///
    /// # Errors
    /// Those of `parser`.
    pub async fn parse_with<T: Send + 'static>(
        self,
        parser: fn(&[u8]) -> HandlerResult<T>,
    ) -> HandlerResult<(T, BodyLease)> {
        let Self { bytes, lease } = self;
        let parsed = if bytes.len() <= PARSED_AT_ONCE {
            parser(&bytes)
        } else {
            run_blocking(move || parser(&bytes)).await?
        };
        Ok((parsed?, lease))
    }
}

/// The next bytes of a body at the [`Pace`] that it must keep; `None` at its end.
///
/// # Errors
/// 408 `request_timeout`, 400 `invalid_body`.
pub async fn next_chunk(payload: &mut web::Payload, pace: &mut Pace) -> HandlerResult<Option<web::Bytes>> {
    loop {
        let slow = |_| Failure::new(Code::RequestTimeout, "the body came too slowly");
        let due = pace.waiting(Instant::now()).map_err(slow)?;
        let Ok(next) = timeout_at(due, payload.next()).await else { continue };
        return match next {
            None => Ok(None),
            Some(Ok(chunk)) => {
                pace.received(Instant::now(), chunk.len() as u64);
                Ok(Some(chunk))
            }
            Some(Err(error)) => {
                Err(Failure::new(Code::InvalidBody, format!("the body cannot be read: {error}")))
            }
        };
    }
}

/// The whole body of a request that must be JSON.
///
/// # Errors
/// 415, and as [`read`].
pub async fn read_json(
    request: &HttpRequest,
    payload: web::Payload,
    principal: &Principal,
) -> HandlerResult<Body> {
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
    read(request, payload, principal).await
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

/// The whole body of a request of `principal`.
///
/// # Errors
/// 413 `body_too_large`, 408 `request_timeout`, 400 `invalid_body`, 429 and 503 as [`hold`].
pub async fn read(
    request: &HttpRequest,
    mut payload: web::Payload,
    principal: &Principal,
) -> HandlerResult<Body> {
    let shell = request
        .app_data::<web::Data<Shell>>()
        .ok_or_else(|| Failure::internal("the routes were registered without their shell"))?;
    let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    if declared.and_then(|length| length.parse::<u64>().ok()).is_some_and(|length| length > MAX_BODY as u64) {
        return Err(too_large());
    }
    let mut lease = shell.bodies.lease(principal);
    let mut pace = pace();
    let mut bytes = web::BytesMut::new();
    while let Some(chunk) = next_chunk(&mut payload, &mut pace).await? {
        if bytes.len() + chunk.len() > MAX_BODY {
            return Err(too_large());
        }
        hold(&mut lease, bytes.len() + chunk.len())?;
        bytes.extend_from_slice(&chunk);
    }
    Ok(Body { bytes: bytes.freeze(), lease })
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
