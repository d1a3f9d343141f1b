//! Why a conversation has no text.

/// What is wrong with a template, or with a conversation for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The checkpoint's template does not parse: the checkpoint is invalid.
    #[error("chat template is invalid: {0}")]
    Invalid(String),
    /// A message has the wrong shape: the caller's fault.
    #[error("{field}: {reason}")]
    Message {
        /// Such as `messages[2].content[0]`.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The template refuses the conversation (`raise_exception`), in its own words: the caller's fault.
    #[error("the model's chat template refuses this: {0}")]
    Raised(String),
    /// The template failed on this conversation.
    #[error("the model's chat template fails: {0}")]
    Failed(String),
    /// It works or writes more than a conversation of this size can need.
    #[error("the model's chat template does not end within its limits: {0}")]
    Limit(String),
}
