//! The list of models.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Answer of `GET /v1/models`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelList {
    /// `list`.
    pub object: String,
    /// All configured models.
    pub data: Vec<Model>,
}

/// One model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Model {
    /// Value for `model` in requests.
    pub id: String,
    /// `model`.
    pub object: String,
    /// Unix seconds.
    pub created: i64,
    /// `videosdgx`.
    pub owned_by: String,
    /// The checkpoint it serves, `demo-shapes` if no other is configured (our addition).
    pub checkpoint: Option<String>,
    /// Whether its service answers (our addition).
    pub available: bool,
    /// Kind of its output; null before its service has answered once (our addition).
    #[serde(default)]
    pub kind: Option<ModelKind>,
}

/// Kind of a model's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModelKind {
    /// Text, token by token: `/v1/chat/completions`, `/v1/completions`, WebSocket `/stream`.
    Text,
    /// Videos, as jobs: `/v1/videos`.
    Video,
}

impl ModelKind {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Video => "video",
        }
    }
}
