//! Requests that the gateway itself sends to a service on behalf of its caller: short JSON requests and responses.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use videosdgx_api::{Code, Problem};

use crate::Gateway;
use crate::failure::Failure;
use crate::layers::request_id::{ClientIp, FORWARDED_FOR, REQUEST_ID};
use crate::layers::trace::log_value;
use crate::retry::{Attempt, AttemptError, Destination, until_reached};
use crate::upstream::{Model, Outcome, Upstream, UpstreamSlot};

/// Longest time of one request.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Largest response body that is read, in bytes.
const MAX_RESPONSE: usize = 4 * 1024 * 1024;
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Sends requests to services with the token, the request id and the address of one caller of the gateway.
#[derive(Debug, Clone)]
pub(crate) struct UpstreamClient {
    headers: HeaderMap,
}

impl UpstreamClient {
    /// A client for the caller that sent the request with these `parts`.
    pub(crate) fn new(parts: &Parts) -> Self {
        let mut headers = HeaderMap::new();
        for name in [AUTHORIZATION, REQUEST_ID] {
            if let Some(value) = parts.headers.get(&name) {
                headers.insert(name, value.clone());
            }
        }
        if let Some(client) = parts.extensions.get::<ClientIp>() {
            headers.insert(FORWARDED_FOR, client.header.clone());
        }
        Self { headers }
    }

    /// Passes the `Idempotency-Key` of the caller on, too.
    pub(crate) fn with_idempotency_key(mut self, parts: &Parts) -> Self {
        if let Some(key) = parts.headers.get(&IDEMPOTENCY_KEY) {
            self.headers.insert(IDEMPOTENCY_KEY, key.clone());
        }
        self
    }

    /// `GET path` at this service.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        gateway: &Gateway,
        upstream: &Arc<Upstream>,
        path: &str,
    ) -> Result<T, Failure> {
        let (_, body) = self.send(gateway, Destination::Only(upstream), Method::GET, path, None).await?;
        parse(&body)
    }

    /// `DELETE path` at this service.
    pub(crate) async fn delete<T: DeserializeOwned>(
        &self,
        gateway: &Gateway,
        upstream: &Arc<Upstream>,
        path: &str,
    ) -> Result<T, Failure> {
        let (_, body) = self.send(gateway, Destination::Only(upstream), Method::DELETE, path, None).await?;
        parse(&body)
    }

    /// `POST path` with a JSON body at the least busy service of a model; at the next one when nothing reached the first.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        gateway: &Gateway,
        model: &Model,
        path: &str,
        body: &impl Serialize,
    ) -> Result<(Arc<Upstream>, T), Failure> {
        let body =
            serde_json::to_vec(body).map_err(|error| Failure::new(Code::Internal, error.to_string()))?;
        let destination = Destination::Any(model);
        let (upstream, body) = self.send(gateway, destination, Method::POST, path, Some(body)).await?;
        Ok((upstream, parse(&body)?))
    }

    /// The body of a successful response, and the service that gave it.
    async fn send(
        &self,
        gateway: &Gateway,
        destination: Destination<'_>,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<(Arc<Upstream>, Vec<u8>), Failure> {
        let request = JsonRequest { client: &gateway.client, headers: &self.headers, method, path, body };
        until_reached(destination, request).await
    }
}

/// A request of the gateway's own, and what it needs for each attempt.
struct JsonRequest<'a> {
    client: &'a reqwest::Client,
    headers: &'a HeaderMap,
    method: Method,
    path: &'a str,
    body: Option<Vec<u8>>,
}

impl Attempt for JsonRequest<'_> {
    type Response = (Arc<Upstream>, Vec<u8>);

    async fn send(&mut self, mut slot: UpstreamSlot) -> Result<Self::Response, AttemptError> {
        let url = slot.upstream.url(self.path);
        let mut request =
            self.client.request(self.method.clone(), url).headers(self.headers.clone()).timeout(TIMEOUT);
        if let Some(body) = &self.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.clone());
        }
        match read(request).await {
            Ok((_, None)) => Err(AttemptError::Final(unavailable())),
            Ok((status, Some(body))) => {
                slot.report(Outcome::of_status(status));
                if !status.is_success() {
                    return Err(AttemptError::Final(refusal(status, &body)));
                }
                Ok((Arc::clone(&slot.upstream), body))
            }
            Err(error) => {
                slot.report(Outcome::Failure);
                log_failure(&slot.upstream, self.headers, &error);
                Err(if error.is_connect() {
                    AttemptError::NotReached(Arc::clone(&slot.upstream), unavailable())
                } else {
                    AttemptError::Final(unavailable())
                })
            }
        }
    }
}

/// Sends the request and reads the response; the body is `None` when it is larger than [`MAX_RESPONSE`].
async fn read(request: reqwest::RequestBuilder) -> Result<(StatusCode, Option<Vec<u8>>), reqwest::Error> {
    let mut response = request.send().await?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MAX_RESPONSE {
            return Ok((response.status(), None));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((response.status(), Some(body)))
}

/// Logs that a request to a service failed, under the request id in `headers`.
pub(crate) fn log_failure(upstream: &Upstream, headers: &HeaderMap, error: &(dyn Error + 'static)) {
    let (upstream, request_id) = (upstream.base(), headers.get(&REQUEST_ID).map_or("", log_value));
    tracing::warn!(event = "upstream_failed", request_id, upstream, error = %innermost_cause(error));
}

/// The innermost cause: the outer ones name the URL, whose query may hold confidential values.
fn innermost_cause(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    if std::ptr::addr_eq(innermost, error) { "failed".to_owned() } else { innermost.to_string() }
}

/// The service's own problem document, or one for its status.
pub(crate) fn refusal(status: StatusCode, body: &[u8]) -> Failure {
    if let Ok(problem) = serde_json::from_slice::<Problem>(body) {
        return problem.into();
    }
    let code = match status.as_u16() {
        400 => Code::InvalidBody,
        401 => Code::Unauthorized,
        403 => Code::InsufficientScope,
        404 => Code::NotFound,
        405 => Code::MethodNotAllowed,
        409 => Code::NotCompleted,
        413 => Code::BodyTooLarge,
        416 => Code::RangeNotSatisfiable,
        429 => return Failure::later(Code::RateLimited, "too many requests, wait", 1),
        503 => return Failure::later(Code::Overloaded, "the service is busy, try again", 5),
        _ => return unavailable(),
    };
    Failure::new(code, format!("the service answered {status}"))
}

/// 502: the service does not answer.
pub(crate) fn unavailable() -> Failure {
    Failure::later(Code::UpstreamUnavailable, "the service does not answer, try again", 5)
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| {
        tracing::warn!(event = "upstream_response_unreadable", %error);
        Failure::new(Code::UpstreamUnavailable, "the service's response cannot be read")
    })
}
