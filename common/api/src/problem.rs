//! Problems as RFC 9457 spells them, with a stable code.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `application/problem+json`. `code` is stable and for programs, `detail` is for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Problem {
    /// `https://videosdgx.dev/problems/<code>` as a name; nothing needs to be there.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code in words.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What is wrong here and what to do.
    pub detail: String,
    /// Stable code, for example `invalid_field`.
    pub code: String,
    /// The request's field at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The limit that it broke, as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<serde_json::Value>,
    /// Seconds to wait; also the `Retry-After` header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u64>,
    /// The request, for the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// Every code that a service or the gateway answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// A field is missing, out of its limits or of the wrong type.
    InvalidField,
    /// Prompt and answer together are longer than the model's context.
    ContextLengthExceeded,
    /// The body is not the JSON that the route takes.
    InvalidBody,
    /// The body's content type is not taken here.
    UnsupportedMediaType,
    /// The client sends too slowly.
    RequestTimeout,
    /// The body is over the limit.
    BodyTooLarge,
    /// No token, or not a good one.
    Unauthorized,
    /// The token lacks a scope.
    InsufficientScope,
    /// A browser page of an origin that may not open WebSockets here.
    OriginNotAllowed,
    /// No such job, or not yours.
    JobNotFound,
    /// No such model.
    ModelNotFound,
    /// No such path.
    NotFound,
    /// The path is there, not with this method.
    MethodNotAllowed,
    /// The job has no file yet, or will never have one.
    NotCompleted,
    /// The job has already ended, so it cannot be cancelled.
    AlreadyEnded,
    /// The file of a completed job is gone from the disk.
    OutputMissing,
    /// The same `Idempotency-Key` came with another body.
    IdempotencyConflict,
    /// `Range` lies outside the file.
    RangeNotSatisfiable,
    /// The queue is full.
    QueueFull,
    /// Too many requests.
    RateLimited,
    /// Too many requests at once.
    Overloaded,
    /// The service is shutting down.
    Draining,
    /// There is no checkpoint.
    CheckpointMissing,
    /// The checkpoint cannot be used.
    CheckpointInvalid,
    /// The model would not fit into memory now.
    InsufficientMemory,
    /// The disk is full.
    StorageFull,
    /// The model is in use.
    ModelBusy,
    /// The service behind the gateway does not answer.
    UpstreamUnavailable,
    /// It took too long.
    Timeout,
    /// A bug; the log has the details under the request's id.
    Internal,
}

impl Code {
    /// The stable code.
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
            Self::InsufficientMemory => "insufficient_memory",
            Self::StorageFull => "storage_full",
            Self::ModelBusy => "model_busy",
            Self::UpstreamUnavailable => "upstream_unavailable",
            Self::Timeout => "timeout",
            Self::Internal => "internal",
        }
    }

    /// Its HTTP status.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidField | Self::ContextLengthExceeded | Self::InvalidBody => 400,
            Self::Unauthorized => 401,
            Self::InsufficientScope | Self::OriginNotAllowed => 403,
            Self::JobNotFound | Self::ModelNotFound | Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::NotCompleted | Self::AlreadyEnded | Self::ModelBusy => 409,
            Self::OutputMissing => 410,
            Self::RequestTimeout => 408,
            Self::BodyTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::RangeNotSatisfiable => 416,
            Self::IdempotencyConflict => 422,
            Self::QueueFull | Self::RateLimited => 429,
            Self::Internal => 500,
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

    /// A field out of its limits.
    pub fn field(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..Self::new(Code::InvalidField, detail) }
    }

    /// Adds the limit that was broken.
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
