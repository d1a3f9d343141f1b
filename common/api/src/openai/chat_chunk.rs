//! Streamed answer of `POST /v1/chat/completions`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{CallKind, ChatLogprobs, FinishReason, Usage};

/// One `data:` of the stream; the last is `[DONE]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChatChunk {
    /// Id of the answer, the same in all chunks.
    pub id: String,
    /// `chat.completion.chunk`.
    pub object: String,
    /// Unix seconds, the same in all chunks.
    pub created: i64,
    /// The model that answers.
    pub model: String,
    /// One choice, or none in the chunk with the usage.
    pub choices: Vec<ChatChunkChoice>,
    /// Token usage: with `include_usage`, null except in the last chunk; without, absent.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "double")]
    #[schema(value_type = Option<Usage>)]
    pub usage: Option<Option<Usage>>,
    /// Identifies program and checkpoint.
    pub system_fingerprint: Option<String>,
}

/// The new part of one choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChatChunkChoice {
    /// Number of the choice, from 0.
    pub index: u32,
    /// The new part of the message.
    pub delta: Delta,
    /// Log probabilities of its tokens; null if not requested.
    pub logprobs: Option<ChatLogprobs>,
    /// Why the choice ended; null except at the end.
    pub finish_reason: Option<FinishReason>,
}

/// The new part of a message.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Delta {
    /// `assistant`, in the first chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Next part of the content; null in the first chunk of an answer that begins with a tool call.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "double")]
    #[schema(value_type = Option<String>)]
    pub content: Option<Option<String>>,
    /// Next part of the reasoning text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// New or continued tool calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<ToolCallDelta>>,
}

/// A new tool call, or the next part of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ToolCallDelta {
    /// Number of the call in the answer, from 0.
    pub index: u32,
    /// Id of the call, in its first delta.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Kind of the call, in its first delta.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<CallKind>,
    /// The new part of name and arguments.
    pub function: FunctionDelta,
}

/// The new part of a function call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FunctionDelta {
    /// Name of the function, in the call's first delta.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Next part of the arguments' JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
}

/// Serde functions for fields that distinguish absent, null and a value.
pub(super) mod double {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in super::super) fn serialize<S: Serializer, T: Serialize>(
        value: &Option<Option<T>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(Some(value)) => serializer.serialize_some(value),
            Some(None) | None => serializer.serialize_none(),
        }
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
        deserializer: D,
    ) -> Result<Option<Option<T>>, D::Error> {
        Option::<T>::deserialize(deserializer).map(Some)
    }
}
