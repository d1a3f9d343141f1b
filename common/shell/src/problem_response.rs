//! The one place where an error becomes a problem document.

use std::fmt;

use actix_web::{
    HttpResponse, ResponseError,
    body::BoxBody,
    http::{StatusCode, header},
};
use videosdgx_api::{Code, Problem, openai::ErrorBody};
use videosdgx_auth::Denied;
use videosdgx_model::ModelError;

/// Media type of RFC 9457.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// A problem on its way to the client. The edge adds the request's id.
#[derive(Debug, Clone)]
pub struct Failure(pub Problem);

/// Result of a handler.
pub type HandlerResult<T = HttpResponse> = Result<T, Failure>;

impl Failure {
    /// A failure with the code `code` and a message for the reader.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Problem::new(code, detail))
    }

    /// 503 `draining`: the service is shutting down.
    pub fn draining() -> Self {
        Self(Problem::new(Code::Draining, "the service is shutting down; try again soon").with_retry_after(5))
    }

    /// An internal error. It is logged here under the request's id; the client does not see its text.
    pub fn internal(error: impl fmt::Display) -> Self {
        tracing::error!(%error, "internal_error");
        Self::new(Code::Internal, "something went wrong inside; the log has it under the request's id")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ResponseError for Failure {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let mut response = HttpResponse::build(self.status_code());
        if let Some(seconds) = self.0.retry_after_seconds {
            response.insert_header((header::RETRY_AFTER, seconds.to_string()));
        }
        if let Some(challenge) = challenge(&self.0.code) {
            response.insert_header((header::WWW_AUTHENTICATE, challenge));
        }
        response.insert_header((header::CONTENT_TYPE, PROBLEM_JSON));
        let mut response = response.body(body(&self.0));
        response.extensions_mut().insert(self.0.clone());
        response
    }
}

/// The `WWW-Authenticate` challenge of a refused token (RFC 6750).
fn challenge(code: &str) -> Option<&'static str> {
    if code == Code::Unauthorized.as_str() {
        Some("Bearer")
    } else if code == Code::InsufficientScope.as_str() {
        Some("Bearer error=\"insufficient_scope\"")
    } else {
        None
    }
}

/// OpenAI's error object as bytes.
pub(crate) fn openai_body(problem: Problem) -> Vec<u8> {
    serde_json::to_vec(&ErrorBody::from(problem)).unwrap_or_default()
}

/// The document as bytes.
pub(crate) fn body(problem: &Problem) -> Vec<u8> {
    // Only text, numbers and JSON values: serialising it cannot fail.
    serde_json::to_vec(problem).unwrap_or_default()
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        if problem.code == Code::Internal.as_str() { Self::internal(problem.detail) } else { Self(problem) }
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        Problem::from(error).into()
    }
}

impl From<Denied> for Failure {
    fn from(denied: Denied) -> Self {
        if let Denied::Unauthenticated { reason } = &denied {
            tracing::debug!(reason, "unauthenticated");
        }
        let code = match denied {
            Denied::Unauthenticated { .. } => Code::Unauthorized,
            Denied::InsufficientScope { .. } => Code::InsufficientScope,
        };
        Self::new(code, denied.to_string())
    }
}

/// The problem document for an error status that the framework answered without one.
pub(crate) fn of_status(status: StatusCode, path: &str) -> Problem {
    let path: String = path.chars().take(120).collect();
    match status.as_u16() {
        404 => Problem::new(Code::NotFound, format!("there is nothing at {path}; GET / lists what there is")),
        405 => Problem::new(Code::MethodNotAllowed, format!("{path} does not take this method; see Allow")),
        408 => Problem::new(Code::RequestTimeout, "the request came too slowly"),
        413 => Problem::new(Code::BodyTooLarge, "the body is too large"),
        415 => Problem::new(Code::UnsupportedMediaType, "send application/json"),
        400..=499 => Problem::new(Code::InvalidBody, "the request cannot be read"),
        503 => Problem::new(Code::Overloaded, "too many requests at once").with_retry_after(1),
        _ => {
            Problem::new(Code::Internal, "something went wrong inside; the log has it under the request's id")
        }
    }
}
