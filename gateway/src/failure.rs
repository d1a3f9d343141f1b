//! From a problem to an answer: once, at the edge.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use videosdgx_api::openai::ErrorBody;
use videosdgx_api::{Code, Problem};
use videosdgx_auth::Denied;

/// What a handler or layer gives up with. It becomes a response that carries the [`Problem`] as an extension; the
/// outermost layer writes the body in the shape that the path speaks.
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

    /// 429 or 503 with `Retry-After`, at least 1 s.
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

/// The language of a path's errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    /// OpenAI's error object.
    OpenAi,
    /// Problem documents.
    Native,
}

impl Language {
    pub(crate) fn of(path: &str) -> Self {
        // A service's own facade is spoken to in the same language.
        let inner =
            path.strip_prefix("/models/").and_then(|rest| rest.split_once('/')).map(|(_, inner)| inner);
        let inner = inner.or(path.strip_prefix('/')).unwrap_or_default();
        let is_openai = matches!(inner, "v1" | "tokenize" | "detokenize") || inner.starts_with("v1/");
        if is_openai { Self::OpenAi } else { Self::Native }
    }
}

/// Writes the body of a failed response; others pass as they are.
pub(crate) fn render(mut response: Response, language: Language, request_id: &HeaderValue) -> Response {
    let Some(problem) = response.extensions_mut().remove::<Box<Problem>>() else { return response };
    let problem = match request_id.to_str() {
        Ok(id) => problem.with_request_id(id),
        Err(_) => *problem,
    };
    let (content_type, body) = match language {
        Language::OpenAi => ("application/json", serde_json::to_vec(&ErrorBody::from(problem))),
        Language::Native => ("application/problem+json", serde_json::to_vec(&problem)),
    };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    *response.body_mut() = Body::from(body.unwrap_or_default());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_its_language() {
        for (path, language) in [
            ("/v1", Language::OpenAi),
            ("/v1/videos/x", Language::OpenAi),
            ("/models/qwen3-4b/v1/chat/completions", Language::OpenAi),
            ("/models/qwen3-4b/tokenize", Language::OpenAi),
            ("/models/v1/generate", Language::Native),
            ("/models/qwen3-4b/stream", Language::Native),
            ("/v1x", Language::Native),
            ("/", Language::Native),
        ] {
            assert_eq!(Language::of(path), language, "{path}");
        }
    }
}
