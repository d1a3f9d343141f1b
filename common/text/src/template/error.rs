//! Errors of chat templates.

use std::error::Error;
use std::sync::Arc;

/// Why a template or a conversation is invalid.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TemplateError {
    /// The checkpoint's template has invalid syntax or is too long.
    #[error("chat template is invalid: {0}")]
    Invalid(#[source] Arc<dyn Error + Send + Sync>),
    /// A message is invalid: an error of the caller.
    #[error("{field}: {reason}")]
    Message {
        /// Path of the field, for example `messages[2].content[0]`.
        field: String,
        /// What is wrong with the field.
        reason: String,
    },
    /// The template rejects the conversation with this message (`raise_exception`): an error of the caller.
    #[error("the model's chat template refuses this: {0}")]
    Raised(String),
    /// The template failed on this conversation.
    #[error("the model's chat template fails: {0}")]
    Failed(#[source] Arc<dyn Error + Send + Sync>),
    /// Rendering exceeds the limits for a conversation of this size.
    #[error("the model's chat template exceeds its limits: {0}")]
    Limit(String),
}

impl TemplateError {
    pub(super) fn invalid(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Invalid(source.into().into())
    }

    pub(super) fn failed(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed(source.into().into())
    }
}
