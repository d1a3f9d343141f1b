//! Tokens of a request, counted as they come.

use videosdgx_api::openai::Usage;
use videosdgx_text::OutputDelta;

/// Of all answers together; a prompt counts once however many answers it has.
#[derive(Debug, Clone, Default)]
pub(crate) struct UsageCount {
    prompt: u64,
    cached: u64,
    completion: u64,
    reasoning: u64,
    /// Answers of one prompt, next to each other.
    answers_per_prompt: Option<u32>,
}

impl UsageCount {
    /// For several prompts, with so many answers each.
    pub(crate) fn of_prompts(answers_per_prompt: u32) -> Self {
        Self { answers_per_prompt: Some(answers_per_prompt.max(1)), ..Self::default() }
    }

    /// A token whose text adds this.
    pub(crate) fn token(&mut self, delta: &OutputDelta) {
        self.reasoning += u64::from(!delta.reasoning.is_empty());
    }

    /// The end of the answer `index`.
    pub(crate) fn end(&mut self, index: u32, usage: &videosdgx_text::Usage) {
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

impl From<UsageCount> for Usage {
    fn from(count: UsageCount) -> Self {
        Self::new(count.prompt, count.cached, count.completion, count.reasoning.min(count.completion))
    }
}
