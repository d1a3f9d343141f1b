//! OpenAI's shapes (`/v1`), as its official clients read them: every nullable field is present.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Answer of `GET /v1/models`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelList {
    /// `list`.
    pub object: String,
    /// All models that are configured.
    pub data: Vec<Model>,
}

/// One model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Model {
    /// Name to send as `model`.
    pub id: String,
    /// `model`.
    pub object: String,
    /// Unix seconds.
    pub created: i64,
    /// `videosdgx`.
    pub owned_by: String,
    /// The checkpoint it serves, `demo-shapes` when no other is configured (our addition).
    pub checkpoint: Option<String>,
    /// Whether its service answers (our addition).
    pub available: bool,
    /// What it makes; null before its service has answered once (our addition).
    #[serde(default)]
    pub kind: Option<ModelKind>,
}

/// What a model makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModelKind {
    /// Text, token by token: `/v1/chat/completions`, `/v1/completions`, WebSocket `/stream`.
    Text,
    /// Videos, as jobs: `/v1/videos`.
    Video,
}

impl ModelKind {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Video => "video",
        }
    }
}

/// States of a [`Video`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VideoStatus {
    /// Waiting.
    Queued,
    /// Being made.
    InProgress,
    /// The file is there.
    Completed,
    /// Failed, cancelled or dead; `error` says which.
    Failed,
}

/// A video job in OpenAI's shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Video {
    /// Our job id.
    pub id: String,
    /// `video`.
    pub object: String,
    /// The model.
    pub model: String,
    /// Where it is.
    pub status: VideoStatus,
    /// 0 to 100.
    pub progress: u8,
    /// Unix seconds.
    pub created_at: i64,
    /// Unix seconds.
    pub completed_at: Option<i64>,
    /// Unix seconds; null: kept until deleted.
    pub expires_at: Option<i64>,
    /// As sent.
    pub prompt: Option<String>,
    /// `WIDTHxHEIGHT`.
    pub size: String,
    /// Length as text.
    pub seconds: String,
    /// Always null here.
    pub remixed_from_video_id: Option<String>,
    /// Why it failed.
    pub error: Option<VideoError>,
    /// The checkpoint that was used (our addition).
    pub checkpoint: String,
    /// What the person should know (our addition).
    pub warnings: Vec<String>,
}

/// Why a video failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VideoError {
    /// Stable code.
    pub code: String,
    /// For people.
    pub message: String,
}

/// A page of videos.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VideoList {
    /// `list`.
    pub object: String,
    /// One page.
    pub data: Vec<Video>,
    /// Id of the first, null when empty.
    pub first_id: Option<String>,
    /// Id of the last, null when empty; send it as `after`.
    pub last_id: Option<String>,
    /// Whether there are more.
    pub has_more: bool,
}

/// Answer of `DELETE /v1/videos/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VideoDeleted {
    /// Which.
    pub id: String,
    /// `video.deleted`.
    pub object: String,
    /// Always true.
    pub deleted: bool,
}

/// Every error under `/v1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorObject,
}

/// OpenAI's error object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorObject {
    /// For people.
    pub message: String,
    /// `invalid_request_error`, `authentication_error`, `permission_error`, `rate_limit_error`, `server_error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The request's field at fault.
    pub param: Option<String>,
    /// Stable code.
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
