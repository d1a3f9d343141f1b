//! Errors of tokenizers.

/// Why a tokenizer cannot be loaded, or a text cannot be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenizerError {
    /// The tokenizer file is invalid or not supported.
    #[error("tokenizer is invalid: {0}")]
    Invalid(String),
    /// The vocabulary of a GGUF file has an unsupported kind.
    #[error("{key} {value:?} is not supported")]
    Unsupported {
        /// Metadata key.
        key: &'static str,
        /// Value of the key.
        value: String,
    },
    /// The text exceeds the limit.
    #[error("text of {bytes} bytes is longer than the limit of {limit}")]
    TooLong {
        /// Length of the text.
        bytes: usize,
        /// Maximum length.
        limit: usize,
    },
    /// The text cannot be encoded.
    #[error("text cannot be tokenized: {0}")]
    Encode(String),
}
