//! Token ids to text that can be shown now: whole characters only, nothing that may turn out to be a stop string.

mod stop;
mod utf8;

use std::sync::Arc;

use self::stop::{StopState, StopStrings};
use self::utf8::Utf8Stream;
use crate::{ShowSpecial, Tokenizer};

/// Turns a growing sequence of tokens into text, a few microseconds a token whatever came before. A clone goes on on its own, so that a
/// retried step or a preempted sequence continues where it was.
#[derive(Clone)]
pub struct Detokenizer {
    tokenizer: Tokenizer,
    special: ShowSpecial,
    stops: Arc<StopStrings>,
    characters: Utf8Stream,
    stop: StopState,
    /// Decoded and not shown: the beginning of a stop string, perhaps.
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
    /// `stop_strings` as [`StopConditions::strings`](crate::StopConditions); empty ones never match.
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

    /// The text follows another, so that its leading space is shown.
    #[must_use]
    pub fn following_text(mut self) -> Self {
        self.started = true;
        self
    }

    /// Takes the next token; gives the text that can be shown now. After a stop string was met ([`Detokenizer::matched`]) nothing comes any
    /// more: neither the stop string nor what followed it.
    pub fn push(&mut self, token: u32) -> String {
        if self.matched.is_some() || (self.special == ShowSpecial::Skip && self.tokenizer.is_special(token)) {
            return String::new();
        }
        let tokenizer = self.tokenizer.clone();
        let bytes = tokenizer.token_bytes(token).unwrap_or_default();
        let bytes = if self.started { bytes } else { tokenizer.without_leading_space(bytes) };
        self.started |= tokenizer.token_bytes(token).is_some_and(|bytes| !bytes.is_empty());
        let text = self.characters.push(bytes);
        self.show(&text)
    }

    /// The end of the output: the text that was held back. Half a character becomes U+FFFD.
    pub fn finish(&mut self) -> String {
        if self.matched.is_some() {
            return String::new();
        }
        let rest = self.characters.finish();
        let mut text = self.show(&rest);
        if self.matched.is_none() {
            text.push_str(&std::mem::take(&mut self.held));
        }
        text
    }

    /// The number of the stop string that was met, in the order they were given.
    #[must_use]
    pub fn matched(&self) -> Option<usize> {
        self.matched
    }

    fn show(&mut self, text: &str) -> String {
        if self.stops.is_empty() {
            return text.to_owned();
        }
        let before = self.held.len();
        self.held.push_str(text);
        for offset in before..self.held.len() {
            if let Some((number, length)) = self.stops.step(&mut self.stop, self.held.as_bytes()[offset]) {
                self.matched = Some(number);
                // The match began inside of what is held: all that could be its beginning was.
                self.held.truncate((offset + 1).saturating_sub(length));
                return std::mem::take(&mut self.held);
            }
        }
        // Stop strings begin with whole characters, so this is a boundary.
        let keep = self.stops.held(&self.stop).min(self.held.len());
        let rest = self.held.split_off(self.held.len() - keep);
        std::mem::replace(&mut self.held, rest)
    }
}
