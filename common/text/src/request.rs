//! Generation requests in tokens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use videosdgx_decoder_api::ImageInput;

/// A request to generate one sequence.
///
/// The default has an empty id and prompt, no end tokens, no length limit but the context, and priority 5.
#[derive(Debug, Clone)]
pub struct GenerationRequest {
    /// Id of the stream in logs and events; unique among the active streams.
    pub id: String,
    /// Owner of the request, for fairness between principals.
    pub principal: String,
    /// Tokens and images.
    pub prompt: Prompt,
    /// Sampling parameters.
    pub sampling: SamplingParams,
    /// Conditions that end the sequence.
    pub stop: StopConditions,
    /// Constraint on the output's form.
    pub constraint: Option<Constraint>,
    /// Number of alternatives per token for which log-probabilities are returned; `Some(0)`: of the sampled token only.
    pub logprobs: Option<u8>,
    /// 0 (lowest) to 9 (default: 5).
    pub priority: u8,
    /// Time limit from submission; the sequence is then ended.
    pub deadline: Option<Duration>,
}

impl Default for GenerationRequest {
    fn default() -> Self {
        Self {
            id: String::new(),
            principal: String::new(),
            prompt: Prompt::default(),
            sampling: SamplingParams::default(),
            stop: StopConditions { max_tokens: usize::MAX, ..StopConditions::default() },
            constraint: None,
            logprobs: None,
            priority: 5,
            deadline: None,
        }
    }
}

/// A prompt as the model takes it: tokens and preprocessed images.
#[derive(Debug, Clone, Default)]
pub struct Prompt {
    /// Token ids, including the placeholders of images.
    pub tokens: Vec<u32>,
    /// Images in order of position.
    pub images: Vec<Arc<ImageInput>>,
}

/// Sampling parameters. [`SamplingParams::default`] is as in OpenAI's API: temperature 1, no truncation.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingParams {
    /// Temperature, 0 (greedy) to 2.
    pub temperature: f32,
    /// Number of most likely tokens that may be sampled; 0: all.
    pub top_k: u32,
    /// Cumulative probability of the most likely tokens that may be sampled, in (0, 1].
    pub top_p: f32,
    /// Minimum probability relative to the most likely token, in [0, 1].
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens in prompt and output; 1: no effect (CTRL, transformers).
    pub repetition_penalty: f32,
    /// Subtracted once from the logits of tokens in the output, -2 to 2 (OpenAI).
    pub presence_penalty: f32,
    /// Subtracted for each occurrence in the output, -2 to 2 (OpenAI).
    pub frequency_penalty: f32,
    /// Added to the logits, by token id, -100 to 100.
    pub logit_bias: BTreeMap<u32, f32>,
    /// Seed: the same seed gives the same text regardless of the rest of the batch. `None`: a random seed.
    pub seed: Option<u64>,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: BTreeMap::new(),
            seed: None,
        }
    }
}

/// Conditions that end a sequence.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StopConditions {
    /// Maximum number of output tokens; the context length limits it further.
    pub max_tokens: usize,
    /// Tokens that end the output and are not part of it, including the checkpoint's end tokens.
    pub token_ids: Vec<u32>,
    /// Strings that end the output and are not part of it.
    pub strings: Vec<String>,
    /// Continue past `token_ids` until `max_tokens` (for benchmarks).
    pub ignore_end: bool,
}

/// Constraint on the form of the output.
#[derive(Debug, Clone, PartialEq)]
pub enum Constraint {
    /// Any JSON object.
    JsonObject,
    /// JSON that matches this schema.
    JsonSchema(serde_json::Value),
    /// A regular expression for the whole text.
    Regex(String),
    /// A grammar in Lark syntax.
    Lark(String),
}
