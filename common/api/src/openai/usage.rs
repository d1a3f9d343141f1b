//! Token usage of a request.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Token usage of a request, over all its choices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// Tokens of the prompt, counted once for any number of choices.
    pub prompt_tokens: u64,
    /// Tokens of all choices.
    pub completion_tokens: u64,
    /// Sum of both.
    pub total_tokens: u64,
    /// Details of the prompt tokens.
    pub prompt_tokens_details: PromptTokensDetails,
    /// Details of the completion tokens.
    pub completion_tokens_details: CompletionTokensDetails,
}

/// Details of the prompt tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PromptTokensDetails {
    /// Tokens found in the prefix cache, which were not computed again.
    pub cached_tokens: u64,
    /// Always 0.
    #[serde(default)]
    pub audio_tokens: u64,
}

/// Details of the completion tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CompletionTokensDetails {
    /// Tokens of `reasoning_content`.
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
    /// From the number of prompt, cached, completion and reasoning tokens.
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
