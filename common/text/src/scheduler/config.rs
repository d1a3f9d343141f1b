//! What a scheduler is told.

use std::sync::Arc;
use std::time::Duration;

use videosdgx_decoder_api::ImageInput;

/// Settings of a scheduler.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SchedulerConfig {
    /// Most sequences that wait or are paused; one more is refused.
    pub(crate) queue_capacity: usize,
    /// So long a wait is worth one step of priority.
    pub(crate) ageing: Duration,
    /// A sequence that is paused for so long is ended.
    pub(crate) slow_reader_limit: Duration,
}

/// What may be done in the next step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Sequences that may run.
    pub(crate) max_running: usize,
    /// Tokens of prompts in a step in which nothing is decoded.
    pub(crate) prompt_alone: usize,
    /// Tokens of prompts in a step beside decoded sequences.
    pub(crate) prompt_beside: usize,
    /// The same while short prompts are computed, and how many tokens a short prompt has at most.
    pub(crate) short_beside: usize,
    pub(crate) short_prompt: usize,
    /// Nobody new is let in (somebody waits for the model to be free).
    pub(crate) hold: bool,
}

/// A new sequence.
#[derive(Debug, Clone, Default)]
pub(crate) struct SequenceSpec {
    /// Whose it is.
    pub(crate) principal: String,
    /// 0 to 9.
    pub(crate) priority: u8,
    /// The prompt, at least one token.
    pub(crate) tokens: Vec<u32>,
    /// Pictures in it.
    pub(crate) images: Vec<Arc<ImageInput>>,
    /// Most tokens of output, at least one.
    pub(crate) max_tokens: usize,
    /// When it ends whatever happens, on the scheduler's clock.
    pub(crate) deadline: Option<Duration>,
    /// Sequences with different salts share no cache.
    pub(crate) salt: String,
}
