//! Video jobs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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
