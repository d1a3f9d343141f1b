//! What the engine asks of the tokenizer's side: text for tokens, and which tokens a constraint allows.

use crate::Constraint;

/// Tokens and text of one checkpoint. Shared by all threads; needs no weights.
pub trait Language: Send + Sync + 'static {
    /// Ids at or above it are padding of the model's output and never chosen.
    fn vocab(&self) -> usize;

    /// Tokens of a text, special tokens of the beginning included where the checkpoint wants them.
    ///
    /// # Errors
    /// What is wrong with the text.
    fn encode(&self, text: &str) -> Result<Vec<u32>, String>;

    /// Bytes of a token, which need not be whole characters.
    fn token_bytes(&self, id: u32) -> Vec<u8>;

    /// The text that follows `prompt`, token by token, ended by any of `stop`.
    fn text_decoder(&self, prompt: &[u32], stop: &[String]) -> Box<dyn TextDecoder>;

    /// Follows a constraint from its beginning. May take long for a large grammar.
    ///
    /// # Errors
    /// What is wrong with the constraint.
    fn matcher(&self, constraint: &Constraint) -> Result<Box<dyn TokenMatcher>, String>;
}

/// Text of one sequence as it grows.
pub trait TextDecoder: Send {
    /// Takes the next token.
    fn push(&mut self, id: u32) -> TextPiece;

    /// The text that was held back, at the end of a sequence that met no stop string.
    fn finish(&mut self) -> String;
}

/// What a token adds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TextPiece {
    /// Text that can be shown now.
    pub text: String,
    /// The stop string that was met; it and what follows is not shown, and nothing is pushed any more.
    pub stop: Option<String>,
}

/// Which tokens a constraint allows next, following one sequence.
pub trait TokenMatcher: Send {
    /// Sets in `mask` (cleared before) the tokens that may come next, the end token where the text may end here.
    ///
    /// # Errors
    /// The constraint cannot go on.
    fn allowed(&mut self, mask: &mut TokenMask) -> Result<(), String>;

    /// Takes the chosen token; whether the constraint is complete and nothing may follow.
    ///
    /// # Errors
    /// The token was not allowed.
    fn accept(&mut self, id: u32) -> Result<bool, String>;
}

/// A set of token ids, a bit each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenMask {
    words: Vec<u32>,
}

impl TokenMask {
    /// The empty set with room for ids below `vocab`.
    #[must_use]
    pub fn new(vocab: usize) -> Self {
        Self { words: vec![0; vocab.div_ceil(32)] }
    }

    /// Makes it empty.
    pub fn clear(&mut self) {
        self.words.fill(0);
    }

    /// Adds `id`; beyond the room it does nothing.
    pub fn allow(&mut self, id: u32) {
        if let Some(word) = self.words.get_mut(id as usize / 32) {
            *word |= 1 << (id % 32);
        }
    }

    /// Whether `id` is in it.
    #[must_use]
    pub fn allows(&self, id: u32) -> bool {
        self.words.get(id as usize / 32).is_some_and(|word| word >> (id % 32) & 1 == 1)
    }

    /// The bits, 32 ids a word, the lowest id in the lowest bit.
    #[must_use]
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// The bits, to be written in one go.
    pub fn words_mut(&mut self) -> &mut [u32] {
        &mut self.words
    }
}
