//! The interface between the engine and the tokenizer: decoding of tokens, and the tokens a constraint allows.

use crate::Constraint;

/// Tokenizer and constraints of one checkpoint. Shared by all threads; does not need the model to be loaded.
pub trait Language: Send + Sync + 'static {
    /// Size of the vocabulary. Ids at or above it are padding of the model's output and never sampled.
    fn vocab(&self) -> usize;

    /// Encodes a text, with the checkpoint's initial special tokens if it has any.
    ///
    /// # Errors
    /// Why the text cannot be encoded.
    fn encode(&self, text: &str) -> Result<Vec<u32>, String>;

    /// Bytes of a token, which may be an incomplete UTF-8 sequence.
    fn token_bytes(&self, id: u32) -> Vec<u8>;

    /// A decoder for the text that follows `prompt`, which ends at any of the `stop` strings.
    fn text_decoder(&self, prompt: &[u32], stop: &[String]) -> Box<dyn TextDecoder>;

    /// Compiles a constraint. May take long for a large grammar.
    ///
    /// # Errors
    /// Why the constraint is invalid.
    fn matcher(&self, constraint: &Constraint) -> Result<Box<dyn TokenMatcher>, String>;
}

/// Decodes the tokens of one sequence incrementally.
pub trait TextDecoder: Send {
    /// Decodes the next token.
    fn push(&mut self, id: u32) -> TextPiece;

    /// Returns the text held back so far, at the end of a sequence without a stop string.
    fn finish(&mut self) -> String;
}

/// Text that a token adds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TextPiece {
    /// Text that can be output now.
    pub text: String,
    /// The stop string that was reached. Neither it nor the text after it is output, and no further token may be pushed.
    pub stop: Option<String>,
}

/// State of a constraint along one sequence.
pub trait TokenMatcher: Send {
    /// Sets the allowed next tokens in `mask`, which the caller has cleared; includes the end token if the text may end here.
    ///
    /// # Errors
    /// Why the constraint cannot be continued.
    fn allowed(&mut self, mask: &mut TokenMask) -> Result<(), String>;

    /// Advances by the sampled token; `true` when the constraint is complete and no further token is allowed.
    ///
    /// # Errors
    /// When the token was not allowed.
    fn accept(&mut self, id: u32) -> Result<bool, String>;
}

/// A set of token ids, one bit per id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenMask {
    words: Vec<u32>,
}

impl TokenMask {
    /// The empty set, for ids below `vocab`.
    #[must_use]
    pub fn new(vocab: usize) -> Self {
        Self { words: vec![0; vocab.div_ceil(32)] }
    }

    /// Removes all ids.
    pub fn clear(&mut self) {
        self.words.fill(0);
    }

    /// Adds `id`; ignored when it is out of range.
    pub fn allow(&mut self, id: u32) {
        if let Some(word) = self.words.get_mut(id as usize / 32) {
            *word |= 1 << (id % 32);
        }
    }

    /// Whether the set contains `id`.
    #[must_use]
    pub fn allows(&self, id: u32) -> bool {
        self.words.get(id as usize / 32).is_some_and(|word| word >> (id % 32) & 1 == 1)
    }

    /// The bits, 32 ids per word, lowest id in the least significant bit.
    #[must_use]
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// The bits, for writing whole words.
    pub fn words_mut(&mut self) -> &mut [u32] {
        &mut self.words
    }
}
