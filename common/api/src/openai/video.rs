//! Video jobs of the OpenAI API.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Status of a [`Video`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VideoStatus {
    /// Waiting in the queue.
    Queued,
    /// Running.
    InProgress,
    /// The video can be downloaded.
    Completed,
    /// Failed, cancelled or dead; `error` has the reason.
    Failed,
}

/// A video job as the OpenAI API describes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Video {
    /// Id of the job.
    pub id: String,
    /// `video`.
    pub object: String,
    /// The model.
    pub model: String,
    /// Its status.
    pub status: VideoStatus,
    /// Progress in percent, 0 to 100.
    pub progress: u8,
    /// Time of submission in Unix seconds.
    pub created_at: i64,
    /// Time of completion in Unix seconds.
    pub completed_at: Option<i64>,
    /// Always null here: videos are kept until they are deleted or their retention ends.
    pub expires_at: Option<i64>,
    /// The prompt.
    pub prompt: Option<String>,
    /// Width and height in pixels, `WIDTHxHEIGHT`.
    pub size: String,
    /// Length in seconds, as text.
    pub seconds: String,
    /// Always null here.
    pub remixed_from_video_id: Option<String>,
    /// Why the job failed.
    pub error: Option<VideoError>,
    /// The checkpoint that is used (an addition).
    pub checkpoint: String,
    /// Warnings for the caller (an addition).
    pub warnings: Vec<String>,
}

/// Why a video failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VideoError {
    /// Stable error code.
    pub code: String,
    /// Message for people.
    pub message: String,
}

/// A page of videos.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VideoList {
    /// `list`.
    pub object: String,
    /// Videos of this page.
    pub data: Vec<Video>,
    /// Id of the first video; null if there is none.
    pub first_id: Option<String>,
    /// Id of the last video, for `after`; null if there is none.
    pub last_id: Option<String>,
    /// Whether there are further pages.
    pub has_more: bool,
}

/// Answer of `DELETE /v1/videos/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VideoDeleted {
    /// Id of the deleted video.
    pub id: String,
    /// `video.deleted`.
    pub object: String,
    /// Always true.
    pub deleted: bool,
}
