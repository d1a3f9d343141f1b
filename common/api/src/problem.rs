//! Problem documents (RFC 9457) with a stable error code.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An `application/problem+json` document. `code` is stable and for programs, `detail` is for people.
///
/// ```
/// use videosdgx_api::{Code, Problem};
///
/// let problem = Problem::field("fps", "fps is 1 to 60").with_limit(60);
/// assert_eq!((problem.status, problem.code.as_str()), (400, Code::InvalidField.as_str()));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Problem {
    /// Identifier `https://videosdgx.dev/problems/<code>`; it need not resolve.
    #[serde(rename = "type")]
    pub kind: String,
    /// Title: the code in words.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What is wrong and what to do.
    pub detail: String,
    /// Stable code, for example `invalid_field`.
    pub code: String,
    /// The invalid field of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The limit that was exceeded, as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<serde_json::Value>,
    /// Seconds to wait before a retry; also the `Retry-After` header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u64>,
    /// Id of the request in the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// Every error code of the services and the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// A field is missing, out of its limits or of the wrong type.
    InvalidField,
    /// Prompt and answer together are longer than the model's context.
    ContextLengthExceeded,
    /// The body is not the JSON that the route takes.
    InvalidBody,
    /// The content type of the body is not supported by the route.
    UnsupportedMediaType,
    /// The client sent the body too slowly.
    RequestTimeout,
    /// The body is larger than the limit.
    BodyTooLarge,
    /// The token is missing or invalid.
    Unauthorized,
    /// The token lacks a scope.
    InsufficientScope,
    /// The origin of the browser page is not allowed to open WebSockets.
    OriginNotAllowed,
    /// The job does not exist or belongs to another principal.
    JobNotFound,
    /// The model does not exist.
    ModelNotFound,
    /// The path does not exist.
    NotFound,
    /// The path exists, but not with this method.
    MethodNotAllowed,
    /// The job has no video yet, or will never have one.
    NotCompleted,
    /// The job has already ended, so it cannot be cancelled.
    AlreadyEnded,
    /// The file of a completed job is missing on disk.
    OutputMissing,
    /// The `Idempotency-Key` was already used with another body.
    IdempotencyConflict,
    /// `Range` is outside the file.
    RangeNotSatisfiable,
    /// The queue is full.
    QueueFull,
    /// Too many requests.
    RateLimited,
    /// Too many requests at once.
    Overloaded,
    /// The service is shutting down.
    Draining,
    /// The checkpoint is missing.
    CheckpointMissing,
    /// The checkpoint cannot be used.
    CheckpointInvalid,
    /// The checkpoint was exchanged before the job ran, and the new one cannot run it.
    CheckpointChanged,
    /// The model does not fit into the available memory.
    InsufficientMemory,
    /// The model computed NaN or infinity.
    NumericalFailure,
    /// The disk is full.
    StorageFull,
    /// The model is in use.
    ModelBusy,
    /// The service behind the gateway does not respond.
    UpstreamUnavailable,
    /// The request took too long.
    Timeout,
    /// An internal error; the log has the details under the request's id.
    Internal,
}

impl Code {
    /// The code on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidField => "invalid_field",
            Self::ContextLengthExceeded => "context_length_exceeded",
            Self::InvalidBody => "invalid_body",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::RequestTimeout => "request_timeout",
            Self::BodyTooLarge => "body_too_large",
            Self::Unauthorized => "unauthorized",
            Self::InsufficientScope => "insufficient_scope",
            Self::OriginNotAllowed => "origin_not_allowed",
            Self::JobNotFound => "job_not_found",
            Self::ModelNotFound => "model_not_found",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::NotCompleted => "not_completed",
            Self::AlreadyEnded => "already_ended",
            Self::OutputMissing => "output_missing",
            Self::IdempotencyConflict => "idempotency_conflict",
            Self::RangeNotSatisfiable => "range_not_satisfiable",
            Self::QueueFull => "queue_full",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Draining => "draining",
            Self::CheckpointMissing => "checkpoint_missing",
            Self::CheckpointInvalid => "checkpoint_invalid",
            Self::CheckpointChanged => "checkpoint_changed",
            Self::InsufficientMemory => "insufficient_memory",
            Self::NumericalFailure => "numerical_failure",
            Self::StorageFull => "storage_full",
            Self::ModelBusy => "model_busy",
            Self::UpstreamUnavailable => "upstream_unavailable",
            Self::Timeout => "timeout",
            Self::Internal => "internal",
        }
    }

    /// The HTTP status of responses with this code.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidField | Self::ContextLengthExceeded | Self::InvalidBody => 400,
            Self::Unauthorized => 401,
            Self::InsufficientScope | Self::OriginNotAllowed => 403,
            Self::JobNotFound | Self::ModelNotFound | Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::NotCompleted | Self::AlreadyEnded | Self::ModelBusy | Self::CheckpointChanged => 409,
            Self::OutputMissing => 410,
            Self::RequestTimeout => 408,
            Self::BodyTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::RangeNotSatisfiable => 416,
            Self::IdempotencyConflict => 422,
            Self::QueueFull | Self::RateLimited => 429,
            Self::Internal | Self::NumericalFailure => 500,
            Self::UpstreamUnavailable => 502,
            Self::Overloaded
            | Self::Draining
            | Self::CheckpointMissing
            | Self::CheckpointInvalid
            | Self::InsufficientMemory => 503,
            Self::Timeout => 504,
            Self::StorageFull => 507,
        }
    }

    fn title(self) -> String {
        let words = self.as_str().replace('_', " ");
        let mut letters = words.chars();
        letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
    }
}

impl Problem {
    /// A problem of `code`; `detail` is a sentence for people: lower case, no full stop, what to do next.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("https://videosdgx.dev/problems/{}", code.as_str()),
            title: code.title(),
            status: code.status(),
            detail: detail.into(),
            code: code.as_str().to_owned(),
            field: None,
            limit: None,
            retry_after_seconds: None,
            request_id: None,
        }
    }

    /// An `invalid_field` problem: a field is missing, outside its limits or of the wrong type.
    pub fn field(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..Self::new(Code::InvalidField, detail) }
    }

    /// Why JSON is not what was expected: `invalid_field` with the field's path, or `invalid_body`. `path` is where the
    /// error occurred, for example `requests[1].fps`, and `.` for the whole.
    #[must_use]
    pub fn invalid_json(path: &str, error: &serde_json::Error) -> Self {
        let message = error.to_string();
        if !error.is_data() {
            return Self::new(Code::InvalidBody, format!("the body is not valid JSON: {message}"));
        }
        // With the field's name, "… at line 1 column 7" is not useful.
        let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
        let inner = ["missing field `", "unknown field `", "duplicate field `"]
            .iter()
            .find_map(|start| message.strip_prefix(start)?.split_once('`').map(|(field, _)| field));
        let path = path.trim_start_matches('.');
        let field = match inner {
            Some(inner) if path.is_empty() || path == inner => inner.to_owned(),
            Some(inner) if path.ends_with(&format!(".{inner}")) => path.to_owned(),
            Some(inner) => format!("{path}.{inner}"),
            None => path.to_owned(),
        };
        // Field names come from the client, so they are cut.
        let field: String = field.chars().filter(|letter| !letter.is_control()).take(100).collect();
        let detail: String = message.chars().take(300).collect();
        if field.is_empty() || field == "?" {
            return Self::new(Code::InvalidBody, detail);
        }
        Self::field(field, detail)
    }

    /// Adds the limit that was exceeded.
    #[must_use]
    pub fn with_limit(mut self, limit: impl Into<serde_json::Value>) -> Self {
        self.limit = Some(limit.into());
        self
    }

    /// Adds `Retry-After`, at least 1 s.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_seconds = Some(seconds.max(1));
        self
    }

    /// Adds the request's id.
    #[must_use]
    pub fn with_request_id(mut self, request_id: impl Into<String>) -> Self {
        self.request_id = Some(request_id.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_problem_names_field_and_limit() {
        let problem = Problem::field("fps", "fps is 1 to 60").with_limit(60);
        let json = serde_json::to_value(&problem).unwrap();
        assert_eq!(json["code"], "invalid_field");
        assert_eq!(json["status"], 400);
        assert_eq!(json["field"], "fps");
        assert_eq!(json["limit"], 60);
        assert_eq!(json["title"], "Invalid field");
        assert_eq!(json["type"], "https://videosdgx.dev/problems/invalid_field");
    }
}
