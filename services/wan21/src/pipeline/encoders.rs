//! Text and image encoder, loaded when they are needed and freed on request.

use std::path::{Path, PathBuf};

use videosdgx_diffusion::{Component, PipelineOptions};
use videosdgx_picture::Picture;
use videosdgx_tensor::{Tensor, TensorError, release_memory};
use videosdgx_video::text::{CachedTextEncoder, EncodedPrompt, TextEncoder};
use videosdgx_video::wan_clip::WanImageEncoder;

pub(super) struct Encoders {
    checkpoint: PathBuf,
    options: PipelineOptions,
    text: CachedTextEncoder<TextEncoder>,
    image: Component<WanImageEncoder>,
}

impl Encoders {
    pub(super) fn new(checkpoint: &Path, options: PipelineOptions) -> Self {
        let PipelineOptions { device, kind, text_quantization, .. } = options;
        let folder = checkpoint.to_owned();
        let text =
            CachedTextEncoder::new(move || TextEncoder::load(&folder, device, kind, text_quantization));
        Self { checkpoint: checkpoint.to_owned(), options, text, image: Component::empty() }
    }

    /// Loads the encoders that are not in memory.
    pub(super) fn load(&mut self, with_image: bool) -> Result<(), TensorError> {
        self.text.load()?;
        if with_image {
            self.image()?;
        }
        Ok(())
    }

    /// Whether all `prompts` are in the cache of embeddings.
    pub(super) fn are_cached(&mut self, prompts: &[&str]) -> bool {
        prompts.iter().all(|prompt| self.text.is_cached(prompt))
    }

    /// Embedding of a prompt, from the cache or the encoder.
    pub(super) fn prompt(&mut self, prompt: &str) -> Result<EncodedPrompt, TensorError> {
        self.text.encode(prompt)
    }

    /// Embedding of a picture.
    pub(super) fn picture(&mut self, picture: &Picture) -> Result<Tensor, TensorError> {
        self.image()?.encode(picture)
    }

    /// Frees both encoders; the cache of embeddings stays.
    pub(super) fn free(&mut self) {
        if self.text.free() | self.image.free() {
            release_memory();
        }
    }

    /// Bytes of the weights in memory.
    pub(super) fn resident_bytes(&self) -> u64 {
        self.text.resident_bytes() + self.image.loaded().map_or(0, WanImageEncoder::resident_bytes)
    }

    fn image(&mut self) -> Result<&WanImageEncoder, TensorError> {
        let PipelineOptions { device, kind, .. } = self.options;
        self.image.get_or_load(|| WanImageEncoder::load(&self.checkpoint, device, kind))
    }
}
