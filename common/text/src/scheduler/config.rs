//! Inputs of the scheduler.

use std::sync::Arc;
use std::time::Duration;

use videosdgx_decoder_api::ImageInput;

/// Configuration of a scheduler.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SchedulerConfig {
    /// Maximum number of sequences that wait or are paused; further ones are refused. One principal may take three times as many
    /// places as are free.
    pub(crate) queue_capacity: usize,
    /// Waiting time that counts as much as one level of priority.
    pub(crate) ageing: Duration,
    /// A sequence that is paused for this long is ended.
    pub(crate) slow_reader_limit: Duration,
}

/// Limits of the next step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepLimits {
    /// Maximum number of running sequences.
    pub(crate) max_running: usize,
    /// Maximum number of prompt tokens in a step without decoding sequences.
    pub(crate) prompt_only_budget: usize,
    /// Maximum number of prompt tokens in a step with decoding sequences.
    pub(crate) mixed_budget: usize,
    /// The same for short prompts.
    pub(crate) short_mixed_budget: usize,
    /// Maximum length of a short prompt in tokens.
    pub(crate) short_prompt: usize,
    /// Admits no sequences, because another user waits for the model.
    pub(crate) pause_admission: bool,
}

/// A new sequence.
#[derive(Debug, Clone, Default)]
pub(crate) struct SequenceSpec {
    /// Owner of the request, for fairness.
    pub(crate) principal: String,
    /// 0 to 9, highest first.
    pub(crate) priority: u8,
    /// The prompt; at least one token.
    pub(crate) tokens: Vec<u32>,
    /// Images of the prompt.
    pub(crate) images: Vec<Arc<ImageInput>>,
    /// Maximum number of output tokens; at least one.
    pub(crate) max_tokens: usize,
    /// Time on the scheduler's clock at which the sequence is ended.
    pub(crate) deadline: Option<Duration>,
    /// Sequences with different salts share no cached blocks.
    pub(crate) salt: String,
}
