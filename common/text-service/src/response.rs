//! Parts that chat and text completion responses share.

use videosdgx_api::openai::Usage;
use videosdgx_text::OutputDelta;

/// The fields that identify a response, the same in each of its chunks.
#[derive(Debug, Clone)]
pub(crate) struct ResponseHeader {
    pub(crate) id: String,
    /// Unix seconds.
    pub(crate) created: i64,
    pub(crate) model: String,
    pub(crate) fingerprint: String,
}

/// Sums the tokens of all answers of a request; a prompt counts once however many answers it has.
#[derive(Debug, Clone, Default)]
pub(crate) struct UsageCounter {
    prompt: u64,
    cached: u64,
    completion: u64,
    reasoning: u64,
    /// Answers per prompt, adjacent to each other; None: one prompt.
    answers_per_prompt: Option<u32>,
}

impl UsageCounter {
    /// For several prompts with `answers_per_prompt` answers each.
    pub(crate) fn of_prompts(answers_per_prompt: u32) -> Self {
        Self { answers_per_prompt: Some(answers_per_prompt.max(1)), ..Self::default() }
    }

    /// Counts a token of output by the text it added.
    pub(crate) fn add_token(&mut self, delta: &OutputDelta) {
        self.reasoning += u64::from(!delta.reasoning.is_empty());
    }

    /// Counts the answer `index`, which has ended.
    pub(crate) fn add_answer(&mut self, index: u32, usage: &videosdgx_text::Usage) {
        self.completion += usage.completion_tokens as u64;
        let first_of_prompt = match self.answers_per_prompt {
            Some(answers) => index.is_multiple_of(answers),
            None => index == 0,
        };
        if first_of_prompt {
            self.prompt += usage.prompt_tokens as u64;
            self.cached += usage.cached_tokens as u64;
        }
    }
}

impl From<UsageCounter> for Usage {
    fn from(count: UsageCounter) -> Self {
        Self::new(count.prompt, count.cached, count.completion, count.reasoning.min(count.completion))
    }
}
