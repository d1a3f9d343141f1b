//! What somebody wants generated, in tokens: checked and complete.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use videosdgx_decoder_api::ImageInput;

/// One sequence to generate.
#[derive(Debug, Clone)]
pub struct GenerationRequest {
    /// Names the stream in logs, events and for resuming; unique among the live ones.
    pub id: String,
    /// Whose it is: fairness between principals, and nobody resumes another's stream.
    pub principal: String,
    /// Tokens and pictures.
    pub prompt: Prompt,
    /// How the next token is chosen.
    pub sampling: SamplingParams,
    /// When it ends.
    pub stop: StopConditions,
    /// What the text must look like.
    pub constraint: Option<Constraint>,
    /// Log-probabilities of so many alternatives with each token (0: of the token alone).
    pub logprobs: Option<u8>,
    /// 0 (least) to 9, 5 by default.
    pub priority: u8,
    /// Whatever is not there so long after the submission is not waited for.
    pub deadline: Option<Duration>,
}

/// A prompt as the model takes it.
#[derive(Debug, Clone, Default)]
pub struct Prompt {
    /// Token ids; a picture's placeholders included.
    pub tokens: Vec<u32>,
    /// Pictures by position.
    pub images: Vec<Arc<ImageInput>>,
}

/// How the next token is chosen. [`SamplingParams::default`] is OpenAI's: temperature 1, nothing cut off.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingParams {
    /// 0 (greedy) to 2.
    pub temperature: f32,
    /// Only the `k` likeliest; 0: all.
    pub top_k: u32,
    /// Only the likeliest that together reach this probability, in (0, 1].
    pub top_p: f32,
    /// Only those at least this fraction as likely as the likeliest, in [0, 1].
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens seen in prompt and output; 1: nothing. (CTRL, transformers.)
    pub repetition_penalty: f32,
    /// Subtracted once from tokens of the output, -2 to 2. (OpenAI.)
    pub presence_penalty: f32,
    /// Subtracted for each occurrence in the output, -2 to 2. (OpenAI.)
    pub frequency_penalty: f32,
    /// Added to logits, -100 to 100, by token id.
    pub logit_bias: BTreeMap<u32, f32>,
    /// The same seed gives the same text, whatever else is in the batch; none: a random one.
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

/// When a sequence ends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StopConditions {
    /// Most tokens of output; never more than the context leaves.
    pub max_tokens: usize,
    /// Tokens that end the output and are not shown (the checkpoint's end tokens included).
    pub token_ids: Vec<u32>,
    /// Texts that end the output and are not shown.
    pub strings: Vec<String>,
    /// Go on over `token_ids` until `max_tokens` (benchmarks).
    pub ignore_end: bool,
}

/// What the text must look like.
#[derive(Debug, Clone, PartialEq)]
pub enum Constraint {
    /// Any JSON object.
    JsonObject,
    /// JSON of this schema.
    JsonSchema(serde_json::Value),
    /// A regular expression over the whole text.
    Regex(String),
    /// A grammar in Lark's language.
    Lark(String),
}
