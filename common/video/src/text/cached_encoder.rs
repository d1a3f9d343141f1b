//! A text encoder that is loaded when it is needed, with a cache of its embeddings.

use std::path::{Path, PathBuf};

use videosdgx_tensor::{Device, Kind, Quantization, TensorError};

use super::{EmbeddingCache, EncodedPrompt, TextEncoder, clean_prompt};

/// Size of the cache: some hundred prompts of UMT5-XXL.
const CACHE_BYTES: u64 = 256 << 20;

/// The text encoder of a checkpoint and its [`EmbeddingCache`]. The encoder can be freed between prompts.
pub struct CachedTextEncoder {
    checkpoint: PathBuf,
    device: Device,
    kind: Kind,
    quantization: Quantization,
    encoder: Option<TextEncoder>,
    cache: EmbeddingCache,
}

impl CachedTextEncoder {
    /// For [`TextEncoder::load`] with these arguments; loads nothing yet.
    pub fn new(checkpoint: &Path, device: Device, kind: Kind, quantization: Quantization) -> Self {
        let cache = EmbeddingCache::new(CACHE_BYTES);
        Self { checkpoint: checkpoint.to_owned(), device, kind, quantization, encoder: None, cache }
    }

    /// Loads the encoder if it is not in memory.
    ///
    /// # Errors
    /// As [`TextEncoder::load`].
    pub fn load(&mut self) -> Result<(), TensorError> {
        self.encoder().map(|_| ())
    }

    /// Whether a prompt's embedding is available without the encoder.
    pub fn is_cached(&mut self, prompt: &str) -> bool {
        self.cache.get(&clean_prompt(prompt)).is_some()
    }

    /// Cleans a prompt and encodes it, or takes its embedding from the cache.
    ///
    /// # Errors
    /// As [`TextEncoder::load`] and [`TextEncoder::encode`].
    pub fn encode(&mut self, prompt: &str) -> Result<EncodedPrompt, TensorError> {
        let cleaned = clean_prompt(prompt);
        if let Some(encoded) = self.cache.get(&cleaned) {
            return Ok(encoded);
        }
        let encoded = self.encoder()?.encode(&cleaned)?;
        self.cache.insert(&cleaned, &encoded);
        Ok(encoded)
    }

    /// Drops the encoder but not the cache; whether it was in memory. Call [`videosdgx_tensor::release_memory`]
    /// afterwards.
    pub fn free(&mut self) -> bool {
        self.encoder.take().is_some()
    }

    /// Bytes of the weights in memory.
    pub fn resident_bytes(&self) -> u64 {
        self.encoder.as_ref().map_or(0, TextEncoder::resident_bytes)
    }

    fn encoder(&mut self) -> Result<&TextEncoder, TensorError> {
        match &mut self.encoder {
            Some(encoder) => Ok(encoder),
            empty => {
                let (device, kind, quantization) = (self.device, self.kind, self.quantization);
                Ok(empty.insert(TextEncoder::load(&self.checkpoint, device, kind, quantization)?))
            }
        }
    }
}
