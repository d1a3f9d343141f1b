//! What is asked for, and what comes.

use std::time::Duration;

use crate::{
    Constraint, FinishReason, GenerationRequest, Prompt, SamplingParams, StopConditions, StreamError,
    StreamEvent, StreamSummary, SubmitError, Usage,
};

/// How prompts are to be answered.
#[derive(Debug, Clone)]
pub struct GenerateOptions {
    /// Most tokens of output a prompt, 512 by default.
    pub max_new_tokens: usize,
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// Tokens that end an output and are not shown: the checkpoint's end tokens.
    pub stop_token_ids: Vec<u32>,
    /// Texts that end an output and are not shown.
    pub stop_strings: Vec<String>,
    /// Go on over `stop_token_ids` until `max_new_tokens` (benchmarks).
    pub ignore_end: bool,
    /// What the text must look like.
    pub constraint: Option<Constraint>,
    /// Log-probabilities of so many alternatives a token.
    pub logprobs: Option<u8>,
    /// 0 (least) to 9.
    pub priority: u8,
    /// For each prompt, from when it is submitted.
    pub deadline: Option<Duration>,
    /// Whose they are.
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

/// A prompt, as text (put into tokens as it is, without a chat template) or in tokens.
#[derive(Debug, Clone)]
pub enum StreamInput {
    /// Text.
    Text(String),
    /// Tokens and pictures.
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

/// One prompt to be answered, with its id.
#[derive(Debug, Clone)]
pub struct StreamRequest {
    /// Names the stream; unique among the live ones.
    pub request_id: String,
    /// The prompt.
    pub input: StreamInput,
    /// How it is to be answered.
    pub options: GenerateOptions,
}

impl StreamRequest {
    /// The engine's form of it.
    ///
    /// # Errors
    /// When the text cannot be put into tokens.
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

/// Something that came of one of the prompts.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamResult {
    /// The stream's id.
    pub request_id: String,
    /// Number of the prompt, from 0.
    pub index: usize,
    /// What came: an event, or why the prompt was not taken (then nothing more comes of it).
    pub output: Result<StreamEvent, SubmitError>,
}

impl StreamResult {
    /// Whether nothing more comes of this prompt.
    #[must_use]
    pub fn is_last(&self) -> bool {
        matches!(self.output, Ok(StreamEvent::Completed(_)) | Err(_))
    }
}

/// All that came of a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamOutcome {
    /// The stream's id.
    pub request_id: String,
    /// The whole text.
    pub text: String,
    /// Why it ended.
    pub reason: FinishReason,
    /// Its tokens.
    pub usage: Usage,
    /// Times and memory.
    pub summary: StreamSummary,
    /// The error that ended it.
    pub error: Option<StreamError>,
}
