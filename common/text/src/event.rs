//! Events of a stream.

use std::time::Duration;

/// One event of a stream. Every stream ends with exactly one `Completed`, also after an error that is not recoverable.
#[derive(Debug, Clone, PartialEq)]
pub enum StreamEvent {
    /// A token was generated.
    Token(TokenEvent),
    /// An error; if it is recoverable, the stream continues.
    Error(StreamError),
    /// The end of the stream.
    Completed(Completed),
}

/// A generated token.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenEvent {
    /// Token id.
    pub id: u32,
    /// Text that this token completes; empty while an incomplete character or a possible stop string is held back.
    pub text: String,
    /// Number of this token in the output, from 0.
    pub position: usize,
    /// Time since the previous token, or since submission for the first one.
    pub latency: Duration,
    /// Log-probabilities, if requested.
    pub logprob: Option<TokenLogprob>,
}

/// Log-probabilities of a sampled token and of the most likely tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    /// The sampled token.
    pub chosen: Choice,
    /// The most likely tokens in descending order, as many as requested.
    pub top: Vec<Choice>,
}

/// A token with its log-probability.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Token id.
    pub id: u32,
    /// Bytes of the token, which may be an incomplete UTF-8 sequence.
    pub bytes: Vec<u8>,
    /// Natural logarithm of the probability, before temperature.
    pub logprob: f32,
}

/// The end of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Completed {
    /// Why the output ended.
    pub reason: FinishReason,
    /// Text that had been held back.
    pub text: String,
    /// The stop string, or the text of the end token, that ended the output.
    pub matched: Option<String>,
    /// Numbers of tokens.
    pub usage: Usage,
    /// Latencies, throughput and memory.
    pub summary: StreamSummary,
}

/// Why an output ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// An end token, a stop string, or the end of the grammar.
    Stop,
    /// `max_tokens` or the context length was reached.
    Length,
    /// The caller cancelled the request or dropped the stream.
    Cancelled,
    /// The deadline passed.
    Deadline,
    /// An error, which was sent before.
    Error,
}

/// Numbers of tokens of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Prompt tokens.
    pub prompt_tokens: usize,
    /// Prompt tokens found in the cache.
    pub cached_tokens: usize,
    /// Output tokens.
    pub completion_tokens: usize,
}

/// Statistics of one stream.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StreamSummary {
    /// Number of output tokens.
    pub total_tokens: usize,
    /// Time from submission to the end.
    pub session_duration: Duration,
    /// Time from submission to the first token.
    pub time_to_first_token: Option<Duration>,
    /// Mean time between tokens.
    pub average_token_latency: Duration,
    /// 95th percentile of the time between tokens.
    pub p95_token_latency: Duration,
    /// Output tokens per second, from the first token to the last.
    pub average_throughput: f64,
    /// Output tokens per second, from submission to the end.
    pub end_to_end_throughput: f64,
    /// Highest resident memory of the process during the stream, bytes.
    pub max_memory_bytes: u64,
    /// Number of errors, recovered ones included.
    pub error_count: usize,
    /// Errors per token.
    pub error_rate: f64,
    /// Most frequent number of sequences in the stream's steps.
    pub most_common_batch_size: usize,
}

/// An error in a stream: `{"code", "message", "recoverable"}` in every protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StreamError {
    /// Stable code.
    pub code: ErrorCode,
    /// Message for humans.
    pub message: String,
    /// Whether the stream continues.
    pub recoverable: bool,
    /// Number of output tokens before the error.
    pub position: usize,
}

/// Stable codes of stream errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// Memory for the cache is insufficient.
    MemoryLimitExceeded,
    /// A step failed.
    StepFailed,
    /// The model computed values that are not finite numbers.
    NumericalFailure,
    /// The deadline passed.
    DeadlineExceeded,
    /// The constraint cannot be continued.
    ConstraintFailed,
    /// The model could not be loaded.
    ModelUnavailable,
    /// The service is shutting down.
    Draining,
    /// The reader read nothing for too long.
    ReaderTooSlow,
}

impl ErrorCode {
    /// The code in protocol messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MemoryLimitExceeded => "memory_limit_exceeded",
            Self::StepFailed => "step_failed",
            Self::NumericalFailure => "numerical_failure",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::ConstraintFailed => "constraint_failed",
            Self::ModelUnavailable => "model_unavailable",
            Self::Draining => "draining",
            Self::ReaderTooSlow => "reader_too_slow",
        }
    }
}
