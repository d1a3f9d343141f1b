//! Incremental decoding of tokens to text: only complete characters, and nothing that may become part of a stop string.

mod stop;
mod utf8;

use std::sync::Arc;

use self::stop::{StopState, StopStrings};
use self::utf8::Utf8Stream;
use crate::{ShowSpecial, Tokenizer};

/// Decodes a sequence of tokens incrementally, in a few microseconds per token independent of its length. Clones continue
/// independently.
#[derive(Clone)]
pub struct Detokenizer {
    tokenizer: Tokenizer,
    special: ShowSpecial,
    stops: Arc<StopStrings>,
    characters: Utf8Stream,
    stop: StopState,
    /// Decoded text that is held back because it may be the beginning of a stop string.
    held: String,
    started: bool,
    matched: Option<usize>,
}

impl std::fmt::Debug for Detokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Detokenizer")
            .field("held", &self.held)
            .field("matched", &self.matched)
            .finish_non_exhaustive()
    }
}

impl Detokenizer {
    /// A decoder that ends at `stop_strings`; empty strings never match.
    #[must_use]
    pub fn new(tokenizer: &Tokenizer, special: ShowSpecial, stop_strings: &[String]) -> Self {
        Self {
            tokenizer: tokenizer.clone(),
            special,
            stops: Arc::new(StopStrings::new(stop_strings)),
            characters: Utf8Stream::default(),
            stop: StopState::default(),
            held: String::new(),
            started: false,
            matched: None,
        }
    }

    /// The text continues an earlier one, so that a leading space is kept.
    #[must_use]
    pub fn following_text(mut self) -> Self {
        self.started = true;
        self
    }

    /// Decodes the next token and returns the text that can be output. After a stop string ([`Detokenizer::matched`]) nothing more is
    /// returned: neither the stop string nor the text after it.
    pub fn push(&mut self, token: u32) -> String {
        if self.matched.is_some() || (self.special == ShowSpecial::Skip && self.tokenizer.is_special(token)) {
            return String::new();
        }
        let tokenizer = self.tokenizer.clone();
        let bytes = tokenizer.token_bytes(token).unwrap_or_default();
        let bytes = if self.started { bytes } else { tokenizer.without_leading_space(bytes) };
        self.started |= tokenizer.token_bytes(token).is_some_and(|bytes| !bytes.is_empty());
        let text = self.characters.push(bytes);
        self.release(&text)
    }

    /// Ends the output and returns the text held back. An incomplete character becomes U+FFFD.
    pub fn finish(&mut self) -> String {
        if self.matched.is_some() {
            return String::new();
        }
        let rest = self.characters.finish();
        let mut text = self.release(&rest);
        if self.matched.is_none() {
            text.push_str(&std::mem::take(&mut self.held));
        }
        text
    }

    /// Index of the stop string that was reached.
    #[must_use]
    pub fn matched(&self) -> Option<usize> {
        self.matched
    }

    fn release(&mut self, text: &str) -> String {
        if self.stops.is_empty() {
            return text.to_owned();
        }
        let before = self.held.len();
        self.held.push_str(text);
        for offset in before..self.held.len() {
            if let Some((number, length)) = self.stops.step(&mut self.stop, self.held.as_bytes()[offset]) {
                self.matched = Some(number);
                // The match begins inside the held text, because every possible beginning is held back.
                self.held.truncate((offset + 1).saturating_sub(length));
                return std::mem::take(&mut self.held);
            }
        }
        // Stop strings begin at character boundaries, so this is one.
        let keep = self.stops.held(&self.stop).min(self.held.len());
        let rest = self.held.split_off(self.held.len() - keep);
        std::mem::replace(&mut self.held, rest)
    }
}
