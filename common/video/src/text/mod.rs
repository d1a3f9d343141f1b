//! Text encoding: preparing a prompt, tokenising it, and the encoders: UMT5 ([`TextEncoder`]) and Gemma 3
//! ([`GemmaPromptEncoder`]).
//!
//! ```no_run
//! use videosdgx_tensor::{Device, Kind, Quantization, TensorError};
//! use videosdgx_video::text::{PromptEncoder, TextEncoder};
//!
//! # fn main() -> Result<(), TensorError> {
//! let folder = "models/wan2.1-t2v-1.3b".as_ref();
//! let encoder = TextEncoder::load(folder, Device::Cpu, Kind::BFloat16, Quantization::None)?;
//! let encoded = encoder.encode(&TextEncoder::prepare("a red  circle"))?;
//! assert_eq!(encoded.embedding.size()[1], encoder.width());
//! # Ok(()) }
//! ```

mod cache;
mod cached_encoder;
mod clean;
mod ftfy;
mod gemma;
mod html;
mod tokenizer;
mod umt5;

use std::path::Path;
use std::sync::Arc;

use videosdgx_tensor::{Checkpoint, Device, Kind, Quantization, Tensor, TensorError, Weights};

pub use cache::EmbeddingCache;
pub use cached_encoder::{CachedTextEncoder, PromptEncoder};
pub use clean::clean_prompt;
pub use gemma::{GEMMA_MAX_TOKENS, GemmaPromptEncoder};
pub use tokenizer::{MAX_TOKENS, PromptTokenizer, PromptTokens};
pub use umt5::{Umt5Config, Umt5Encoder};

/// An encoded prompt.
#[derive(Debug)]
pub struct EncodedPrompt {
    /// `[tokens, width]` in the compute type, without padding.
    pub embedding: Tensor,
    /// Words that are not in the vocabulary, each once, in order.
    pub unknown_words: Vec<String>,
    /// Whether the prompt had more tokens than the encoder takes and was truncated.
    pub truncated: bool,
}

impl EncodedPrompt {
    /// A copy that shares the embedding's memory.
    pub fn shallow_clone(&self) -> Self {
        Self {
            embedding: self.embedding.shallow_clone(),
            unknown_words: self.unknown_words.clone(),
            truncated: self.truncated,
        }
    }
}

/// Tokenizer and UMT5 encoder of a checkpoint.
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
        let tokenizer = PromptTokenizer::open(&checkpoint.join("tokenizer"), MAX_TOKENS)?;
        let files = Arc::new(Checkpoint::open(checkpoint.join("text_encoder"))?);
        let config = files.config()?;
        let encoder = Umt5Encoder::load(&Weights::new(files, device, kind, quantization), config)?;
        Ok(Self { tokenizer, encoder })
    }

    /// Size of an embedding.
    pub fn width(&self) -> i64 {
        self.encoder.width()
    }
}

impl PromptEncoder for TextEncoder {
    /// Some hundred prompts of UMT5-XXL.
    const CACHE_BYTES: u64 = 256 << 20;

    /// Cleans the prompt as [`clean_prompt`] does.
    fn prepare(prompt: &str) -> String {
        clean_prompt(prompt)
    }

    fn resident_bytes(&self) -> u64 {
        self.encoder.resident_bytes()
    }

    /// Encodes a prompt that was cleaned.
    ///
    /// # Errors
    /// `Libtorch` when tokenising or computing fails; `Invalid` when the vocabularies of tokenizer and encoder differ;
    /// `OutOfMemory`.
    fn encode(&self, cleaned: &str) -> Result<EncodedPrompt, TensorError> {
        let tokens = self.tokenizer.encode(cleaned).map_err(tokenizer_failed)?;
        let embedding = self.encoder.forward(&tokens.ids)?;
        Ok(EncodedPrompt { embedding, unknown_words: tokens.unknown_words, truncated: tokens.truncated })
    }
}

fn tokenizer_failed(error: tokenizers::Error) -> TensorError {
    TensorError::Libtorch(format!("the tokenizer failed: {error}"))
}
