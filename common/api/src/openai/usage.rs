//! Tokens that a request took.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Tokens of a request, all its choices together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// Of the prompt; counted once, however many choices were asked for.
    pub prompt_tokens: u64,
    /// Of all choices.
    pub completion_tokens: u64,
    /// Both.
    pub total_tokens: u64,
    /// Of the prompt.
    pub prompt_tokens_details: PromptTokensDetails,
    /// Of the choices.
    pub completion_tokens_details: CompletionTokensDetails,
}

/// Of the prompt's tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PromptTokensDetails {
    /// Those that need not be computed: an earlier request with the same beginning had left them.
    pub cached_tokens: u64,
    /// Always 0.
    #[serde(default)]
    pub audio_tokens: u64,
}

/// Of the tokens of the choices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CompletionTokensDetails {
    /// Those of `reasoning_content`.
    pub reasoning_tokens: u64,
    /// Always 0.
    #[serde(default)]
    pub audio_tokens: u64,
    /// Always 0.
    #[serde(default)]
    pub accepted_prediction_tokens: u64,
    /// Always 0.
    #[serde(default)]
    pub rejected_prediction_tokens: u64,
}

impl Usage {
    /// Of these counts.
    #[must_use]
    pub fn new(prompt: u64, cached: u64, completion: u64, reasoning: u64) -> Self {
        Self {
            prompt_tokens: prompt,
            completion_tokens: completion,
            total_tokens: prompt + completion,
            prompt_tokens_details: PromptTokensDetails { cached_tokens: cached, audio_tokens: 0 },
            completion_tokens_details: CompletionTokensDetails {
                reasoning_tokens: reasoning,
                ..CompletionTokensDetails::default()
            },
        }
    }
}
