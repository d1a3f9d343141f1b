//! The error object of the OpenAI API.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Body of every error under `/v1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorObject,
}

/// OpenAI's error object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorObject {
    /// Message for people.
    pub message: String,
    /// `invalid_request_error`, `authentication_error`, `permission_error`, `rate_limit_error`, `server_error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The invalid field of the request.
    pub param: Option<String>,
    /// Stable error code.
    pub code: Option<String>,
}

impl From<crate::Problem> for ErrorBody {
    fn from(problem: crate::Problem) -> Self {
        let kind = match problem.status {
            401 => "authentication_error",
            403 => "permission_error",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        Self {
            error: ErrorObject {
                message: problem.detail,
                kind: kind.to_owned(),
                param: problem.field,
                code: Some(problem.code),
            },
        }
    }
}
