//! What a stream carries.

use std::time::Duration;

/// One event of a stream. Every stream ends with exactly one `Completed`; an error that is not recoverable is followed by it.
#[derive(Debug, Clone, PartialEq)]
pub enum StreamEvent {
    /// A token was generated.
    Token(TokenEvent),
    /// Something went wrong; when recoverable, the stream goes on.
    Error(StreamError),
    /// The end.
    Completed(Completed),
}

/// A generated token.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenEvent {
    /// Its id.
    pub id: u32,
    /// The text that can be shown now; empty while half of a character or the beginning of a stop string is held back.
    pub text: String,
    /// Number of this token in the output, from 0.
    pub position: usize,
    /// Since the token before it, or since the submission for the first.
    pub latency: Duration,
    /// When asked for.
    pub logprob: Option<TokenLogprob>,
}

/// The log-probability of a chosen token, and its likeliest alternatives, likeliest first.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    /// The chosen one.
    pub chosen: Choice,
    /// As many as were asked for.
    pub top: Vec<Choice>,
}

/// A token that was or could have been chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Its id.
    pub id: u32,
    /// Its bytes, which need not be whole characters.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability, before temperature.
    pub logprob: f32,
}

/// The end of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Completed {
    /// Why it ended.
    pub reason: FinishReason,
    /// Text that was held back and is shown now.
    pub text: String,
    /// The stop string or token that was met.
    pub matched: Option<String>,
    /// Tokens.
    pub usage: Usage,
    /// Times and memory.
    pub summary: StreamSummary,
}

/// Why an output ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// An end token, a stop string, or the end of the grammar.
    Stop,
    /// `max_tokens` or the context.
    Length,
    /// The caller cancelled or left.
    Cancelled,
    /// The deadline passed.
    Deadline,
    /// An error ended it; it was sent before.
    Error,
}

/// Tokens of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Of the prompt.
    pub prompt_tokens: usize,
    /// Of those, found in the cache.
    pub cached_tokens: usize,
    /// Of the output.
    pub completion_tokens: usize,
}

/// What the specification's session summary reports of one stream.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StreamSummary {
    /// Tokens of the output.
    pub total_tokens: usize,
    /// From submission to the end.
    pub session_duration: Duration,
    /// From submission to the first token.
    pub time_to_first_token: Option<Duration>,
    /// Mean time between tokens.
    pub average_token_latency: Duration,
    /// 95th percentile of it.
    pub p95_token_latency: Duration,
    /// Output tokens a second of generation.
    pub average_throughput: f64,
    /// Output tokens a second from submission to the end.
    pub end_to_end_throughput: f64,
    /// Largest resident memory of the process meanwhile, bytes.
    pub max_memory_bytes: u64,
    /// Errors met, recovered ones included.
    pub error_count: usize,
    /// Errors a token.
    pub error_rate: f64,
    /// How many sequences ran in most of its steps.
    pub most_common_batch_size: usize,
}

/// An error in a stream: `{"code", "message", "recoverable"}` in every protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StreamError {
    /// A stable word.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// Whether the stream goes on.
    pub recoverable: bool,
    /// Number of the token at which it happened.
    pub position: usize,
}

/// Stable words of stream errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// No memory for the cache.
    MemoryLimitExceeded,
    /// A step failed.
    StepFailed,
    /// The deadline passed.
    DeadlineExceeded,
    /// The grammar cannot go on.
    ConstraintFailed,
    /// The model could not be loaded.
    ModelUnavailable,
    /// The service is shutting down.
    Draining,
    /// The reader took nothing for too long.
    ReaderTooSlow,
}

impl ErrorCode {
    /// As it is written in messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MemoryLimitExceeded => "memory_limit_exceeded",
            Self::StepFailed => "step_failed",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::ConstraintFailed => "constraint_failed",
            Self::ModelUnavailable => "model_unavailable",
            Self::Draining => "draining",
            Self::ReaderTooSlow => "reader_too_slow",
        }
    }
}
