//! What can be wrong with a tokenizer or with a text.

/// Why there is no tokenizer, or why a text has no tokens.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenizerError {
    /// The file is not a tokenizer that this understands.
    #[error("tokenizer is invalid: {0}")]
    Invalid(String),
    /// The vocabulary of a GGUF file is of a kind that is not implemented.
    #[error("{key} {value:?} is not supported")]
    Unsupported {
        /// Metadata key.
        key: &'static str,
        /// What it says.
        value: String,
    },
    /// A text above the limit.
    #[error("text of {bytes} bytes is longer than the limit of {limit}")]
    TooLong {
        /// Of the text.
        bytes: usize,
        /// Most.
        limit: usize,
    },
    /// The text cannot be encoded.
    #[error("text cannot be tokenized: {0}")]
    Encode(String),
}
