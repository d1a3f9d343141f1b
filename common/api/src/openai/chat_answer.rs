//! Answer of `POST /v1/chat/completions` without streaming.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ToolCall, Usage};

/// Answer to a conversation.
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
    /// `n` choices.
    pub choices: Vec<ChatChoice>,
    /// Token usage.
    pub usage: Usage,
    /// Identifies program and checkpoint: a seed gives the same answer only with the same fingerprint.
    pub system_fingerprint: Option<String>,
}

/// One choice of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChatChoice {
    /// Number of the choice, from 0.
    pub index: u32,
    /// The message of the model.
    pub message: AnswerMessage,
    /// Log probabilities of its tokens; null if not requested.
    pub logprobs: Option<ChatLogprobs>,
    /// Why it ended.
    pub finish_reason: Option<FinishReason>,
    /// The stop string that ended it (our addition, as vLLM names it).
    pub stop_reason: Option<String>,
}

/// The message of the model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AnswerMessage {
    /// `assistant`.
    pub role: String,
    /// Null if it only called tools.
    pub content: Option<String>,
    /// Always null here.
    pub refusal: Option<String>,
    /// Reasoning text; absent if there is none (an addition, named as in vLLM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// Tool calls; absent if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<ToolCall>>,
    /// Always empty here.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    pub annotations: Vec<serde_json::Value>,
    /// Always null here.
    #[schema(value_type = Option<Object>)]
    pub audio: Option<serde_json::Value>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// End-of-sequence token or stop string.
    Stop,
    /// Limit of tokens reached.
    Length,
    /// Tool calls.
    ToolCalls,
    /// Content filter; never used here.
    ContentFilter,
}

/// Log probabilities of an answer's tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChatLogprobs {
    /// One entry per token of the content.
    pub content: Option<Vec<TokenLogprob>>,
    /// Always null here.
    pub refusal: Option<Vec<TokenLogprob>>,
}

/// A token of the answer with its log probability.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TokenLogprob {
    /// Text of the token; a replacement character where it is part of a character.
    pub token: String,
    /// Natural logarithm of its probability.
    pub logprob: f64,
    /// Bytes of the token.
    pub bytes: Option<Vec<u8>>,
    /// The most likely tokens at this position, as many as requested.
    pub top_logprobs: Vec<TopLogprob>,
}

/// An alternative token with its log probability.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TopLogprob {
    /// Text of the token.
    pub token: String,
    /// Natural logarithm of its probability.
    pub logprob: f64,
    /// Bytes of the token.
    pub bytes: Option<Vec<u8>>,
}
