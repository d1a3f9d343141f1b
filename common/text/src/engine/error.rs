//! Errors of submission.

use std::time::Duration;

/// Why [`TextEngine::submit`](crate::TextEngine::submit) refused a request; nothing was queued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The queue, or the principal's share of it, is full.
    #[error("{} ({waiting} requests wait), try again in {} s", which_queue(*share), retry_after.as_secs())]
    QueueFull {
        /// Number of waiting requests: of the principal if it is its share that is full, otherwise of all.
        waiting: usize,
        /// The principal's share is full; others may still submit requests.
        share: bool,
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

fn which_queue(share: bool) -> &'static str {
    if share { "your share of the queue is full" } else { "the queue is full" }
}
