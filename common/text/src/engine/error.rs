//! Errors of submission.

use std::time::Duration;

/// Why [`TextEngine::submit`](crate::TextEngine::submit) refused a request; nothing was queued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The queue is full.
    #[error("the queue is full ({waiting} requests), try again in {} s", retry_after.as_secs())]
    QueueFull {
        /// Number of waiting requests.
        waiting: usize,
        /// Estimated time until a queue place is free; whole seconds, at least 1.
        retry_after: Duration,
    },
    /// The service is shutting down.
    #[error("the service is shutting down, try another one")]
    Draining,
    /// The prompt leaves no room for output.
    #[error("the prompt has {prompt_tokens} tokens and the context holds {max_context}, shorten the prompt")]
    ContextExceeded {
        /// Number of tokens of the prompt.
        prompt_tokens: usize,
        /// Maximum number of tokens of prompt and output together.
        max_context: usize,
    },
    /// A field has an invalid value.
    #[error("{field}: {reason}")]
    Invalid {
        /// Name of the field in [`GenerationRequest`](crate::GenerationRequest).
        field: &'static str,
        /// The allowed values.
        reason: String,
    },
    /// The schema, regular expression or grammar cannot be compiled.
    #[error("the constraint cannot be used: {0}")]
    Constraint(String),
    /// An active stream has this id.
    #[error("a stream with the id {0} is active, choose another id")]
    DuplicateId(String),
}
