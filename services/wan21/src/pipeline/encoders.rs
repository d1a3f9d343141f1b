//! Text and image encoder, loaded when needed and freed when asked.

use std::path::{Path, PathBuf};

use videosdgx_tensor::{Tensor, TensorError, release_memory};
use videosdgx_video::clip::ImageEncoder;
use videosdgx_video::picture::Picture;
use videosdgx_video::text::{EmbeddingCache, EncodedPrompt, TextEncoder, clean_prompt};

use super::Options;

/// Bytes of embeddings kept: some hundred prompts of UMT5-XXL.
const CACHE_BYTES: u64 = 256 << 20;

pub(super) struct Encoders {
    checkpoint: PathBuf,
    options: Options,
    text: Option<TextEncoder>,
    image: Option<ImageEncoder>,
    cache: EmbeddingCache,
}

impl Encoders {
    pub(super) fn new(checkpoint: &Path, options: Options) -> Self {
        let cache = EmbeddingCache::new(CACHE_BYTES);
        Self { checkpoint: checkpoint.to_owned(), options, text: None, image: None, cache }
    }

    /// Loads what is not loaded.
    pub(super) fn load(&mut self, with_image: bool) -> Result<(), TensorError> {
        self.text()?;
        if with_image {
            self.image()?;
        }
        Ok(())
    }

    /// Whether every one of `prompts` can be had without the encoder.
    pub(super) fn has(&mut self, prompts: &[&str]) -> bool {
        prompts.iter().all(|prompt| self.cache.get(&clean_prompt(prompt)).is_some())
    }

    /// Embedding of a prompt, from the cache or the encoder.
    pub(super) fn prompt(&mut self, prompt: &str) -> Result<EncodedPrompt, TensorError> {
        let cleaned = clean_prompt(prompt);
        if let Some(encoded) = self.cache.get(&cleaned) {
            return Ok(encoded);
        }
        let encoded = self.text()?.encode(&cleaned)?;
        self.cache.insert(&cleaned, &encoded);
        Ok(encoded)
    }

    /// Embedding of a picture.
    pub(super) fn picture(&mut self, picture: &Picture) -> Result<Tensor, TensorError> {
        self.image()?.encode(picture)
    }

    /// Frees both encoders; embeddings stay.
    pub(super) fn free(&mut self) {
        if self.text.take().is_some() | self.image.take().is_some() {
            release_memory();
        }
    }

    /// Bytes of the weights in memory.
    pub(super) fn resident_bytes(&self) -> u64 {
        self.text.as_ref().map_or(0, TextEncoder::resident_bytes)
            + self.image.as_ref().map_or(0, ImageEncoder::resident_bytes)
    }

    fn text(&mut self) -> Result<&TextEncoder, TensorError> {
        let Options { device, kind, text_quantization, .. } = self.options;
        match &mut self.text {
            Some(text) => Ok(text),
            empty => Ok(empty.insert(TextEncoder::load(&self.checkpoint, device, kind, text_quantization)?)),
        }
    }

    fn image(&mut self) -> Result<&ImageEncoder, TensorError> {
        let Options { device, kind, .. } = self.options;
        match &mut self.image {
            Some(image) => Ok(image),
            empty => Ok(empty.insert(ImageEncoder::load(&self.checkpoint, device, kind)?)),
        }
    }
}
