//! A text encoder that is loaded when it is needed, with a cache of its embeddings.

use videosdgx_tensor::TensorError;

use super::{EmbeddingCache, EncodedPrompt};

/// An encoder of prompts that [`CachedTextEncoder`] keeps.
pub trait PromptEncoder {
    /// Size of the cache of embeddings, in bytes.
    const CACHE_BYTES: u64;

    /// The prompt as it is encoded: prompts that become the same text have the same embedding.
    fn prepare(prompt: &str) -> String;

    /// Encodes a prompt that was prepared.
    ///
    /// # Errors
    /// Those of the encoder.
    fn encode(&self, prepared: &str) -> Result<EncodedPrompt, TensorError>;

    /// Bytes of the weights in memory.
    fn resident_bytes(&self) -> u64;
}

/// A text encoder and its [`EmbeddingCache`]. The encoder is loaded when it is needed, and can be freed between prompts.
pub struct CachedTextEncoder<E> {
    load: Box<dyn Fn() -> Result<E, TensorError> + Send>,
    encoder: Option<E>,
    cache: EmbeddingCache,
}

impl<E: PromptEncoder> CachedTextEncoder<E> {
    /// An encoder that `load` loads; loads nothing yet.
    pub fn new(load: impl Fn() -> Result<E, TensorError> + Send + 'static) -> Self {
        Self { load: Box::new(load), encoder: None, cache: EmbeddingCache::new(E::CACHE_BYTES) }
    }

    /// Loads the encoder if it is not in memory.
    ///
    /// # Errors
    /// Those of the function that loads it.
    pub fn load(&mut self) -> Result<(), TensorError> {
        self.encoder().map(|_| ())
    }

    /// Whether a prompt's embedding is available without the encoder.
    pub fn is_cached(&mut self, prompt: &str) -> bool {
        self.cache.get(&E::prepare(prompt)).is_some()
    }

    /// Prepares a prompt and encodes it, or takes its embedding from the cache.
    ///
    /// # Errors
    /// As [`CachedTextEncoder::load`] and [`PromptEncoder::encode`].
    pub fn encode(&mut self, prompt: &str) -> Result<EncodedPrompt, TensorError> {
        let prepared = E::prepare(prompt);
        if let Some(encoded) = self.cache.get(&prepared) {
            return Ok(encoded);
        }
        let encoded = self.encoder()?.encode(&prepared)?;
        self.cache.insert(&prepared, &encoded);
        Ok(encoded)
    }

    /// Drops the encoder but not the cache; whether it was in memory. Call [`videosdgx_tensor::release_memory`]
    /// afterwards.
    pub fn free(&mut self) -> bool {
        self.encoder.take().is_some()
    }

    /// Bytes of the weights in memory.
    pub fn resident_bytes(&self) -> u64 {
        self.encoder.as_ref().map_or(0, E::resident_bytes)
    }

    fn encoder(&mut self) -> Result<&E, TensorError> {
        match &mut self.encoder {
            Some(encoder) => Ok(encoder),
            empty => Ok(empty.insert((self.load)()?)),
        }
    }
}
