//! `POST /v1/completions`: continuation of a text.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{SeqAccess, Visitor},
};
use utoipa::ToSchema;

use super::{FinishReason, Stop, StreamOptions, StructuredOutputs, Usage, chat_chunk::double};

/// A text to continue. Only `model` and `prompt` are required.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CompletionRequest {
    /// Name of the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = true, nullable = false)]
    pub model: Option<String>,
    /// A text, texts, token ids, or lists of them.
    pub prompt: CompletionPrompt,
    /// Not supported: must be null or absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suffix: Option<String>,
    /// Largest number of tokens of an answer. Default: 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    pub max_tokens: Option<u64>,
    /// Sampling temperature, 0 (always the most likely token) to 2. Default: the checkpoint's, or 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 2)]
    pub temperature: Option<f64>,
    /// Nucleus sampling: only the most likely tokens that together reach this probability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(exclusive_minimum = 0, maximum = 1)]
    pub top_p: Option<f64>,
    /// Number of answers per prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 16)]
    pub n: Option<u32>,
    /// 1 or the value of `n`; other values are not supported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 16)]
    pub best_of: Option<u32>,
    /// Whether the answer is streamed as server-sent events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
    /// Options of the stream; only with `stream`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_options: Option<StreamOptions>,
    /// Includes log probabilities, with this number of alternatives per token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 5)]
    pub logprobs: Option<u32>,
    /// Whether the answer begins with the prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub echo: Option<bool>,
    /// Stop strings, which end the answer and are not part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    /// Seed of the sampler: the same seed gives the same text. Default: random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// Makes tokens that are already in the answer less likely, -2 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = -2, maximum = 2)]
    pub presence_penalty: Option<f64>,
    /// The same in proportion to their number, -2 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = -2, maximum = 2)]
    pub frequency_penalty: Option<f64>,
    /// Added to the logits of tokens, by id, -100 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "crate::bounded::optional_map::<{ crate::MAX_BIASES }, _, _>")]
    pub logit_bias: Option<BTreeMap<String, f64>>,
    /// Ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Only the `k` most likely tokens; 0 or -1: all (an addition with vLLM's name, like the fields below).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = -1)]
    pub top_k: Option<i64>,
    /// Only tokens at least this fraction as likely as the most likely one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1)]
    pub min_p: Option<f64>,
    /// Above 1: makes tokens of prompt and answer less likely.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(exclusive_minimum = 0, maximum = 10)]
    pub repetition_penalty: Option<f64>,
    /// Whether generation continues after the end-of-sequence token until `max_tokens`; for benchmarks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignore_eos: Option<bool>,
    /// Token ids that end the answer and are not part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 64)]
    pub stop_token_ids: Option<Vec<u32>>,
    /// The answer is JSON that matches this schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub guided_json: Option<serde_json::Value>,
    /// The whole answer matches this regular expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guided_regex: Option<String>,
    /// The answer is one of these texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guided_choice: Option<Vec<String>>,
    /// The answer matches this grammar in Lark syntax.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guided_grammar: Option<String>,
    /// The same constraints as one field, vLLM's newer form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structured_outputs: Option<StructuredOutputs>,
    /// Priority, 0 (least urgent) to 9. Default: 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 9)]
    pub priority: Option<i64>,
    /// Deadline in seconds, after which the generation is ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(exclusive_minimum = 0, maximum = 86400)]
    pub timeout: Option<f64>,
}

/// Prompt of a completion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum CompletionPrompt {
    /// A text.
    Text(String),
    /// Several texts, each with its own answers.
    Texts(Vec<String>),
    /// Token ids.
    Tokens(Vec<u32>),
    /// Lists of token ids, each with its own answers.
    TokenLists(Vec<Vec<u32>>),
}

impl<'de> Deserialize<'de> for CompletionPrompt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PromptVisitor)
    }
}

struct PromptVisitor;

/// An item of a prompt that is a list; all items have the kind of the first.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a text, a token id or a list of token ids")]
enum Item {
    Text(String),
    Token(u32),
    Tokens(Vec<u32>),
}

impl<'de> Visitor<'de> for PromptVisitor {
    type Value = CompletionPrompt;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a list of strings, a list of token ids or a list of such lists")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<CompletionPrompt, E> {
        Ok(CompletionPrompt::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<CompletionPrompt, A::Error> {
        let mixed = || serde::de::Error::custom("the items of a prompt must all be of one kind");
        let mut prompt = match items.next_element::<Item>()? {
            None => return Ok(CompletionPrompt::Texts(Vec::new())),
            Some(Item::Text(text)) => CompletionPrompt::Texts(vec![text]),
            Some(Item::Token(token)) => CompletionPrompt::Tokens(vec![token]),
            Some(Item::Tokens(tokens)) => CompletionPrompt::TokenLists(vec![tokens]),
        };
        while let Some(item) = items.next_element::<Item>()? {
            match (&mut prompt, item) {
                (CompletionPrompt::Texts(texts), Item::Text(text)) => texts.push(text),
                (CompletionPrompt::Tokens(tokens), Item::Token(token)) => tokens.push(token),
                (CompletionPrompt::TokenLists(lists), Item::Tokens(tokens)) => lists.push(tokens),
                _ => return Err(mixed()),
            }
        }
        Ok(prompt)
    }
}

/// Answer of `POST /v1/completions`, whole or one `data:` of its stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Completion {
    /// `cmpl-…`.
    pub id: String,
    /// `text_completion`.
    pub object: String,
    /// Unix seconds.
    pub created: i64,
    /// The model that answered.
    pub model: String,
    /// `n` choices per prompt, in the order of the prompts; in a stream, the new part of one choice.
    pub choices: Vec<CompletionChoice>,
    /// Token usage. In a stream with `include_usage`, null except in the last chunk; in one without, absent.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "double")]
    #[schema(value_type = Option<Usage>)]
    pub usage: Option<Option<Usage>>,
    /// Identifies program and checkpoint.
    pub system_fingerprint: Option<String>,
}

/// One answer of a completion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CompletionChoice {
    /// Number of the choice, from 0.
    pub index: u32,
    /// The text, or the new part of it.
    pub text: String,
    /// Log probabilities of its tokens; null if not requested.
    pub logprobs: Option<CompletionLogprobs>,
    /// Why it ended; in a stream, null except at the end.
    pub finish_reason: Option<FinishReason>,
    /// The stop string that ended it (our addition, as vLLM names it).
    pub stop_reason: Option<String>,
}

/// Log probabilities; each list has one entry per token.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CompletionLogprobs {
    /// Texts of the tokens.
    pub tokens: Vec<String>,
    /// Natural logarithms of the probabilities; null for the first token of an echoed prompt.
    pub token_logprobs: Vec<Option<f64>>,
    /// The most likely tokens at each position.
    pub top_logprobs: Vec<Option<BTreeMap<String, f64>>>,
    /// Offset of each token in the text, in characters.
    pub text_offset: Vec<u64>,
}
