//! The whole answer of `POST /v1/chat/completions`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ToolCall, Usage};

/// A conversation's next message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChatCompletion {
    /// `chatcmpl-…`.
    pub id: String,
    /// `chat.completion`.
    pub object: String,
    /// Unix seconds.
    pub created: i64,
    /// The model that answered.
    pub model: String,
    /// As many as `n`.
    pub choices: Vec<ChatChoice>,
    /// Tokens.
    pub usage: Usage,
    /// Names program and checkpoint: answers of one seed are only alike under the same.
    pub system_fingerprint: Option<String>,
    /// Always null here.
    pub service_tier: Option<String>,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChatChoice {
    /// From 0.
    pub index: u32,
    /// What the model said.
    pub message: AnswerMessage,
    /// How likely its tokens were; null when not asked for.
    pub logprobs: Option<ChatLogprobs>,
    /// Why it ended.
    pub finish_reason: Option<FinishReason>,
    /// The stop string that ended it (our addition, as vLLM names it).
    pub stop_reason: Option<String>,
}

/// What the model said.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AnswerMessage {
    /// `assistant`.
    pub role: String,
    /// Null when it only called tools.
    pub content: Option<String>,
    /// Always null here.
    pub refusal: Option<String>,
    /// What it thought; absent unless it did (our addition, as vLLM and others name it).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// The tools that it called; absent unless it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<ToolCall>>,
    /// Always empty here.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    pub annotations: Vec<serde_json::Value>,
    /// Always null here.
    #[schema(value_type = Option<Object>)]
    pub audio: Option<serde_json::Value>,
    /// Always null here: `tool_calls` is its successor.
    #[schema(value_type = Option<Object>)]
    pub function_call: Option<serde_json::Value>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// By itself, or by a stop string.
    Stop,
    /// It has as many tokens as it may have.
    Length,
    /// It called tools.
    ToolCalls,
    /// Never here: nothing is filtered.
    ContentFilter,
}

/// How likely the tokens of an answer were.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChatLogprobs {
    /// Of its content, a token each.
    pub content: Option<Vec<TokenLogprob>>,
    /// Always null here.
    pub refusal: Option<Vec<TokenLogprob>>,
}

/// A token of the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TokenLogprob {
    /// Its text; with a replacement character where it is a part of one.
    pub token: String,
    /// Natural logarithm of its probability.
    pub logprob: f64,
    /// Its bytes.
    pub bytes: Option<Vec<u8>>,
    /// The likeliest tokens at its place, as many as asked for.
    pub top_logprobs: Vec<TopLogprob>,
}

/// A token that could have been.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TopLogprob {
    /// As in [`TokenLogprob`].
    pub token: String,
    /// As in [`TokenLogprob`].
    pub logprob: f64,
    /// As in [`TokenLogprob`].
    pub bytes: Option<Vec<u8>>,
}
