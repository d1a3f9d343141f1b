//! Problems as HTTP responses: converted once, in the outermost layer.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use videosdgx_api::openai::ErrorBody;
use videosdgx_api::routes::{ANY_SERVICE, ErrorFormat};
use videosdgx_api::{Code, Problem};
use videosdgx_auth::Denied;

use crate::native::service_path;

/// The error of a handler or layer. It becomes a response that carries the [`Problem`] as an extension; the outermost
/// layer writes the body in the error format of the path.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    problem: Box<Problem>,
    challenge: Option<&'static str>,
}

impl Failure {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Problem::new(code, detail).into()
    }

    pub(crate) fn field(field: &str, detail: impl Into<String>) -> Self {
        Problem::field(field, detail).into()
    }

    /// A problem with `Retry-After` (usually 429 or 503), at least 1 s.
    pub(crate) fn later(code: Code, detail: impl Into<String>, seconds: u64) -> Self {
        Problem::new(code, detail).with_retry_after(seconds).into()
    }

    pub(crate) fn job_not_found() -> Self {
        Self::new(Code::JobNotFound, "there is no such job")
    }

    pub(crate) fn problem(&self) -> &Problem {
        &self.problem
    }

    pub(crate) fn map(mut self, change: impl FnOnce(&mut Problem)) -> Self {
        change(&mut self.problem);
        self
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self { problem: Box::new(problem), challenge: None }
    }
}

impl From<Denied> for Failure {
    fn from(denied: Denied) -> Self {
        Self { challenge: Some(denied.www_authenticate()), problem: Box::new(Problem::from(&denied)) }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() =
            StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if let Some(challenge) = self.challenge {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(seconds) = self.problem.retry_after_seconds {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response.extensions_mut().insert(self.problem);
        response
    }
}

/// How errors at `path` are written: the gateway's own paths and the services' below `/models/{model}` alike.
pub(crate) fn error_format(path: &str) -> ErrorFormat {
    ANY_SERVICE.error_format(service_path(path).unwrap_or(path))
}

/// Writes the body of a response that carries a [`Problem`]; other responses stay unchanged.
pub(crate) fn render(
    mut response: Response,
    format: impl FnOnce() -> ErrorFormat,
    request_id: &HeaderValue,
) -> Response {
    let Some(problem) = response.extensions_mut().remove::<Box<Problem>>() else { return response };
    let problem = match request_id.to_str() {
        Ok(id) => problem.with_request_id(id),
        Err(_) => *problem,
    };
    let (content_type, body) = match format() {
        ErrorFormat::OpenAi => ("application/json", serde_json::to_vec(&ErrorBody::from(problem))),
        ErrorFormat::Native => ("application/problem+json", serde_json::to_vec(&problem)),
    };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    *response.body_mut() = Body::from(body.unwrap_or_default());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_its_error_format() {
        for (path, format) in [
            ("/v1", ErrorFormat::OpenAi),
            ("/v1/videos/x", ErrorFormat::OpenAi),
            ("/models/qwen3-4b/v1/chat/completions", ErrorFormat::OpenAi),
            ("/models/qwen3-4b/tokenize", ErrorFormat::OpenAi),
            ("/models/v1/generate", ErrorFormat::Native),
            ("/models/qwen3-4b/stream", ErrorFormat::Native),
            ("/v1x", ErrorFormat::Native),
            ("/", ErrorFormat::Native),
        ] {
            assert_eq!(error_format(path), format, "{path}");
        }
    }
}
