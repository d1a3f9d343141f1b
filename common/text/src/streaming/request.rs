//! Requests and results of streaming.

use std::time::Duration;

use crate::{
    Constraint, FinishReason, GenerationRequest, Prompt, SamplingParams, StopConditions, StreamError,
    StreamEvent, StreamSummary, SubmitError, Usage,
};

/// Generation options of the prompts of a stream.
#[derive(Debug, Clone)]
pub struct GenerateOptions {
    /// Maximum number of output tokens per prompt (default: 512).
    pub max_new_tokens: usize,
    /// Sampling parameters.
    pub sampling: SamplingParams,
    /// Tokens that end an output and are not part of it: the checkpoint's end tokens.
    pub stop_token_ids: Vec<u32>,
    /// Strings that end an output and are not part of it.
    pub stop_strings: Vec<String>,
    /// Continue past `stop_token_ids` until `max_new_tokens` (for benchmarks).
    pub ignore_end: bool,
    /// Constraint on the output's form.
    pub constraint: Option<Constraint>,
    /// Number of alternatives per token for which log-probabilities are returned; `Some(0)`: of the sampled token only.
    pub logprobs: Option<u8>,
    /// 0 (lowest) to 9 (default: 5).
    pub priority: u8,
    /// Time limit of each prompt, from its submission.
    pub deadline: Option<Duration>,
    /// Owner of the requests, for fairness.
    pub principal: String,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            max_new_tokens: 512,
            sampling: SamplingParams::default(),
            stop_token_ids: Vec::new(),
            stop_strings: Vec::new(),
            ignore_end: false,
            constraint: None,
            logprobs: None,
            priority: 5,
            deadline: None,
            principal: String::new(),
        }
    }
}

/// A prompt as text or tokens.
#[derive(Debug, Clone)]
pub enum StreamInput {
    /// Text, encoded without a chat template.
    Text(String),
    /// Tokens and images.
    Tokens(Prompt),
}

impl From<String> for StreamInput {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for StreamInput {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Prompt> for StreamInput {
    fn from(prompt: Prompt) -> Self {
        Self::Tokens(prompt)
    }
}

/// A prompt with its id and options.
#[derive(Debug, Clone)]
pub struct StreamRequest {
    /// Id of the stream; unique among the active ones.
    pub request_id: String,
    /// The prompt.
    pub input: StreamInput,
    /// Generation options.
    pub options: GenerateOptions,
}

impl StreamRequest {
    /// Converts it to a request to the engine.
    ///
    /// # Errors
    /// When the text cannot be encoded.
    pub fn into_generation(
        self,
        encode: impl FnOnce(&str) -> Result<Vec<u32>, String>,
    ) -> Result<GenerationRequest, SubmitError> {
        let prompt = match self.input {
            StreamInput::Tokens(prompt) => prompt,
            StreamInput::Text(text) => {
                let tokens =
                    encode(&text).map_err(|reason| SubmitError::Invalid { field: "prompt", reason })?;
                Prompt { tokens, images: Vec::new() }
            }
        };
        let options = self.options;
        Ok(GenerationRequest {
            id: self.request_id,
            principal: options.principal,
            prompt,
            sampling: options.sampling,
            stop: StopConditions {
                max_tokens: options.max_new_tokens,
                token_ids: options.stop_token_ids,
                strings: options.stop_strings,
                ignore_end: options.ignore_end,
            },
            constraint: options.constraint,
            logprobs: options.logprobs,
            priority: options.priority,
            deadline: options.deadline,
        })
    }
}

/// A result for one of the prompts.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamResult {
    /// The stream's id.
    pub request_id: String,
    /// Number of the prompt in its source, from 0.
    pub index: usize,
    /// An event, or why the prompt was refused (then it is the prompt's only result).
    pub output: Result<StreamEvent, SubmitError>,
}

impl StreamResult {
    /// Whether this is the last result for its prompt.
    #[must_use]
    pub fn is_last(&self) -> bool {
        matches!(self.output, Ok(StreamEvent::Completed(_)) | Err(_))
    }
}

/// The complete output of a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamOutcome {
    /// The stream's id.
    pub request_id: String,
    /// The complete text.
    pub text: String,
    /// Why the output ended.
    pub reason: FinishReason,
    /// Numbers of tokens.
    pub usage: Usage,
    /// Latencies, throughput and memory.
    pub summary: StreamSummary,
    /// The error that ended the output, if any.
    pub error: Option<StreamError>,
}
