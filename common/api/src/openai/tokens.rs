//! `POST /tokenize` and `POST /detokenize`, with the fields of vLLM.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ChatMessage, Tool};

/// A text or conversation to tokenize: `prompt` or `messages`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TokenizeRequest {
    /// Name of the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Text to tokenize.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Conversation to tokenize, rendered by the chat template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "crate::bounded::optional_list::<{ crate::MAX_MESSAGES }, _, _>")]
    pub messages: Option<Vec<ChatMessage>>,
    /// Tools for the chat template; only with `messages`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<Tool>>,
    /// Whether beginning-of-sequence tokens are added to a text. Default: true. A conversation has those of its template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_special_tokens: Option<bool>,
    /// Whether the prefix of the assistant's answer is added; only with `messages`. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_generation_prompt: Option<bool>,
    /// Whether the last message, which is the assistant's, is left open; only with `messages`. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continue_final_message: Option<bool>,
    /// Variables for the chat template; only with `messages`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub chat_template_kwargs: Option<serde_json::Map<String, serde_json::Value>>,
    /// Whether the answer includes the text of each token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub return_token_strs: Option<bool>,
}

/// Tokens of a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenizeAnswer {
    /// Number of tokens.
    pub count: u64,
    /// Largest number of tokens that the model accepts.
    pub max_model_len: u64,
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Texts of the tokens, if requested.
    pub token_strs: Option<Vec<String>>,
}

/// Tokens to convert to text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DetokenizeRequest {
    /// Name of the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Token ids.
    pub tokens: Vec<u32>,
}

/// Text of tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DetokenizeAnswer {
    /// The text.
    pub prompt: String,
}
