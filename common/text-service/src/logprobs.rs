//! Log-probabilities in the formats of OpenAI's chat and text completions.

use std::collections::BTreeMap;

use videosdgx_api::openai::{ChatLogprobs, CompletionLogprobs, TokenLogprob, TopLogprob};
use videosdgx_text::{Choice, TokenLogprob as EngineLogprob};

/// The log-probabilities of a chat's tokens.
pub(crate) fn chat(tokens: Vec<TokenLogprob>) -> ChatLogprobs {
    ChatLogprobs { content: Some(tokens), refusal: None }
}

/// The log-probability of one token of a chat.
pub(crate) fn chat_token(found: &EngineLogprob) -> TokenLogprob {
    TokenLogprob {
        token: text(&found.chosen),
        logprob: number(found.chosen.logprob),
        bytes: Some(found.chosen.bytes.clone()),
        top_logprobs: found
            .top
            .iter()
            .map(|choice| TopLogprob {
                token: text(choice),
                logprob: number(choice.logprob),
                bytes: Some(choice.bytes.clone()),
            })
            .collect(),
    }
}

/// Collects the log-probabilities of a text completion, with each token's offset in the text.
#[derive(Debug, Default)]
pub(crate) struct CompletionTokens {
    pending: CompletionLogprobs,
    /// Characters before the next token.
    offset: u64,
}

impl CompletionTokens {
    /// For an answer whose first token follows `characters` characters.
    pub(crate) fn after(characters: usize) -> Self {
        Self { offset: characters as u64, ..Self::default() }
    }

    pub(crate) fn push(&mut self, found: &EngineLogprob) {
        let token = text(&found.chosen);
        self.pending.text_offset.push(self.offset);
        self.offset += token.chars().count() as u64;
        self.pending.tokens.push(token);
        self.pending.token_logprobs.push(Some(number(found.chosen.logprob)));
        let top: BTreeMap<String, f64> =
            found.top.iter().map(|choice| (text(choice), number(choice.logprob))).collect();
        self.pending.top_logprobs.push(Some(top));
    }

    /// The tokens since the last call.
    pub(crate) fn take(&mut self) -> CompletionLogprobs {
        std::mem::take(&mut self.pending)
    }
}

fn text(choice: &Choice) -> String {
    String::from_utf8_lossy(&choice.bytes).into_owned()
}

/// JSON has no infinity; like OpenAI, -9999 stands for a probability of (almost) zero.
fn number(logprob: f32) -> f64 {
    f64::from(logprob).max(-9999.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(bytes: &[u8], logprob: f32) -> EngineLogprob {
        let chosen = Choice { id: 1, bytes: bytes.to_vec(), logprob };
        EngineLogprob { top: vec![chosen.clone()], chosen }
    }

    #[test]
    fn invalid_utf8_and_infinity_are_representable() {
        let token = chat_token(&found(&[0xC3], f32::NEG_INFINITY));
        assert_eq!((token.token.as_str(), token.bytes), ("\u{FFFD}", Some(vec![0xC3])));
        assert!((token.logprob + 9999.0).abs() < f64::EPSILON);
    }

    #[test]
    fn offsets_count_characters_across_takes() {
        let mut tokens = CompletionTokens::after(3);
        tokens.push(&found("äb".as_bytes(), -0.5));
        assert_eq!(tokens.take().text_offset, [3]);
        tokens.push(&found(b"c", -0.5));
        let second = tokens.take();
        assert_eq!((second.text_offset, second.tokens), (vec![5], vec!["c".to_owned()]));
    }
}
