//! From a prompt to what the transformer attends to: cleaning, tokenising, UMT5.

mod cache;
mod clean;
mod tokenizer;
mod umt5;

use std::path::Path;
use std::sync::Arc;

use videosdgx_tensor::{Checkpoint, Device, Kind, Quantization, Tensor, TensorError, Weights};

pub use cache::EmbeddingCache;
pub use clean::clean_prompt;
pub use tokenizer::{MAX_TOKENS, PromptTokenizer, PromptTokens};
pub use umt5::{Umt5Config, Umt5Encoder};

/// An encoded prompt.
#[derive(Debug)]
pub struct EncodedPrompt {
    /// `[tokens ≤ 512, d_model]` in the compute type, not filled up.
    pub embedding: Tensor,
    /// Words that the vocabulary does not hold, each once, in order.
    pub unknown_words: Vec<String>,
    /// Whether the prompt was too long and lost its end.
    pub truncated: bool,
}

impl EncodedPrompt {
    /// The same embedding under another name.
    pub fn shallow_clone(&self) -> Self {
        Self {
            embedding: self.embedding.shallow_clone(),
            unknown_words: self.unknown_words.clone(),
            truncated: self.truncated,
        }
    }
}

/// Tokenizer and encoder of a checkpoint.
pub struct TextEncoder {
    tokenizer: PromptTokenizer,
    encoder: Umt5Encoder,
}

impl TextEncoder {
    /// Loads `tokenizer/` and `text_encoder/` of a checkpoint folder.
    ///
    /// # Errors
    /// `Missing` or `Invalid` naming the file; `OutOfMemory`.
    pub fn load(
        checkpoint: &Path,
        device: Device,
        kind: Kind,
        quantization: Quantization,
    ) -> Result<Self, TensorError> {
        let tokenizer = PromptTokenizer::open(&checkpoint.join("tokenizer"))?;
        let files = Arc::new(Checkpoint::open(checkpoint.join("text_encoder"))?);
        let config = files.config()?;
        let encoder = Umt5Encoder::load(&Weights::new(files, device, kind, quantization), config)?;
        Ok(Self { tokenizer, encoder })
    }

    /// Channels of an embedding.
    pub fn width(&self) -> i64 {
        self.encoder.width()
    }

    /// Bytes of the weights in memory.
    pub fn resident_bytes(&self) -> u64 {
        self.encoder.resident_bytes()
    }

    /// Encodes a prompt that [`clean_prompt`] cleaned.
    ///
    /// # Errors
    /// `Libtorch` when tokenising or computing fails, `Invalid` when the vocabularies of tokenizer and encoder differ;
    /// `OutOfMemory`.
    pub fn encode(&self, cleaned: &str) -> Result<EncodedPrompt, TensorError> {
        let tokens = self
            .tokenizer
            .encode(cleaned)
            .map_err(|error| TensorError::Libtorch(format!("the tokenizer failed: {error}")))?;
        let embedding = self.encoder.forward(&tokens.ids)?;
        Ok(EncodedPrompt { embedding, unknown_words: tokens.unknown_words, truncated: tokens.truncated })
    }
}
