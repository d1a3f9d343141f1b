//! Why a request is not taken.

use std::time::Duration;

/// Why [`crate::TextEngine::submit`] refused; nothing was queued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// As many requests as may wait are waiting.
    #[error("{waiting} requests are waiting already, try again in {} s", retry_after.as_secs())]
    QueueFull {
        /// How many wait.
        waiting: usize,
        /// When a place is likely to be free; at least a second, whole seconds.
        retry_after: Duration,
    },
    /// The service is shutting down.
    #[error("the service is shutting down, try another one")]
    Draining,
    /// The prompt leaves no room for an answer.
    #[error("the prompt has {prompt_tokens} tokens and the context holds {max_context}, shorten the prompt")]
    ContextExceeded {
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// Most tokens of prompt and output together.
        max_context: usize,
    },
    /// A field has a value that cannot be.
    #[error("{field}: {reason}")]
    Invalid {
        /// Its name in [`crate::GenerationRequest`].
        field: &'static str,
        /// What would be right.
        reason: String,
    },
    /// The schema, expression or grammar cannot be used.
    #[error("the constraint cannot be used: {0}")]
    Constraint(String),
    /// A live stream has this id.
    #[error("a stream named {0} is alive, choose another id")]
    DuplicateId(String),
}
