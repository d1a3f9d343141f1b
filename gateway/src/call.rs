//! Small questions that the gateway itself asks a service, in the name of whoever asked the gateway.

use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use videosdgx_api::{Code, Problem};

use crate::Gateway;
use crate::failure::Failure;
use crate::layers::request_id::{ClientIp, FORWARDED_FOR, REQUEST_ID};
use crate::layers::trace::shown;
use crate::upstream::{Lease, Model, Outcome, Upstream};

/// Longest time of one question.
const LIMIT: Duration = Duration::from_secs(30);
/// Largest answer that is read.
const MAX_ANSWER: usize = 4 * 1024 * 1024;
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// In whose name, and under which request id.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    headers: HeaderMap,
}

impl Caller {
    pub(crate) fn of(parts: &Parts) -> Self {
        let mut headers = HeaderMap::new();
        for name in [AUTHORIZATION, REQUEST_ID] {
            if let Some(value) = parts.headers.get(&name) {
                headers.insert(name, value.clone());
            }
        }
        if let Some(ClientIp(ip)) = parts.extensions.get::<ClientIp>()
            && let Ok(ip) = HeaderValue::try_from(ip.to_string())
        {
            headers.insert(FORWARDED_FOR, ip);
        }
        Self { headers }
    }

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
        self.bodiless(Method::GET, gateway, upstream, path).await
    }

    /// `DELETE path` at this service.
    pub(crate) async fn delete<T: DeserializeOwned>(
        &self,
        gateway: &Gateway,
        upstream: &Arc<Upstream>,
        path: &str,
    ) -> Result<T, Failure> {
        self.bodiless(Method::DELETE, gateway, upstream, path).await
    }

    async fn bodiless<T: DeserializeOwned>(
        &self,
        method: Method,
        gateway: &Gateway,
        upstream: &Arc<Upstream>,
        path: &str,
    ) -> Result<T, Failure> {
        let lease = upstream.lease().ok_or_else(unavailable)?;
        let (_, answer) =
            self.ask(gateway, lease, method, path, None).await.map_err(Trouble::into_failure)?;
        parse(&answer)
    }

    /// `POST path` with a JSON body at the least busy service of a model; the next one when nothing reached the first.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        gateway: &Gateway,
        model: &Model,
        path: &str,
        body: &impl Serialize,
    ) -> Result<(Arc<Upstream>, T), Failure> {
        let body =
            serde_json::to_vec(body).map_err(|error| Failure::new(Code::Internal, error.to_string()))?;
        let mut tried = Vec::new();
        let mut failure = unavailable();
        while let Some(lease) = model.lease(&tried) {
            let upstream = Arc::clone(&lease.upstream);
            match self.ask(gateway, lease, Method::POST, path, Some(body.clone())).await {
                Ok((_, answer)) => return Ok((upstream, parse(&answer)?)),
                Err(Trouble::NotReached) => {
                    failure = Trouble::NotReached.into_failure();
                    tried.push(upstream);
                }
                Err(trouble) => return Err(trouble.into_failure()),
            }
        }
        Err(failure)
    }

    async fn ask(
        &self,
        gateway: &Gateway,
        mut lease: Lease,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<(StatusCode, Vec<u8>), Trouble> {
        let url = lease.upstream.url(path);
        let mut request = gateway.client.request(method, url).headers(self.headers.clone()).timeout(LIMIT);
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        let answer = async {
            let mut response = request.send().await?;
            let mut bytes = Vec::new();
            while let Some(chunk) = response.chunk().await? {
                if bytes.len() + chunk.len() > MAX_ANSWER {
                    return Ok(Err(Trouble::Broken));
                }
                bytes.extend_from_slice(&chunk);
            }
            Ok::<_, reqwest::Error>(Ok((response.status(), bytes)))
        };
        match answer.await {
            Ok(Ok((status, bytes))) => {
                let failed = matches!(status, StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT);
                lease.report(if failed { Outcome::Failure } else { Outcome::Success });
                if status.is_success() { Ok((status, bytes)) } else { Err(Trouble::Refused(status, bytes)) }
            }
            Ok(Err(trouble)) => Err(trouble),
            Err(error) => {
                lease.report(Outcome::Failure);
                let upstream = lease.upstream.base();
                let not_reached = error.is_connect();
                let request_id = self.headers.get(&REQUEST_ID).map_or("", shown);
                tracing::warn!(event = "upstream_failed", request_id, upstream, error = %error.without_url());
                Err(if not_reached { Trouble::NotReached } else { Trouble::Broken })
            }
        }
    }
}

enum Trouble {
    /// No connection: another service may be asked.
    NotReached,
    /// It broke off or sent what cannot be read.
    Broken,
    /// It answered with an error.
    Refused(StatusCode, Vec<u8>),
}

impl Trouble {
    fn into_failure(self) -> Failure {
        match self {
            Trouble::NotReached | Trouble::Broken => unavailable(),
            Trouble::Refused(status, body) => refusal(status, &body),
        }
    }
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

pub(crate) fn unavailable() -> Failure {
    Failure::later(Code::UpstreamUnavailable, "the service does not answer, try again", 5)
}

fn parse<T: DeserializeOwned>(answer: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(answer).map_err(|error| {
        tracing::warn!(event = "upstream_answer_unreadable", %error);
        Failure::new(Code::UpstreamUnavailable, "the service's answer cannot be read")
    })
}
