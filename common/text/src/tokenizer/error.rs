//! Errors of tokenizers.

use std::error::Error;
use std::sync::Arc;

/// Why a tokenizer cannot be loaded, or a text cannot be encoded.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TokenizerError {
    /// The tokenizer file is invalid or not supported.
    #[error("tokenizer is invalid: {0}")]
    Invalid(#[source] Arc<dyn Error + Send + Sync>),
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
    Encode(#[source] Arc<dyn Error + Send + Sync>),
}

impl TokenizerError {
    pub(super) fn invalid(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Invalid(source.into().into())
    }

    pub(crate) fn encode(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Encode(source.into().into())
    }
}
