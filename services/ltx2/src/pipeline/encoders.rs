//! Text encoder and connectors: from a prompt to its tokens for picture and sound.

use std::path::{Path, PathBuf};

use videosdgx_diffusion::{Component, PipelineOptions, Summary};
use videosdgx_tensor::{Quantization, TensorError, catch_libtorch_errors, release_memory};
use videosdgx_video::text::{CachedTextEncoder, EncodedPrompt, GemmaPromptEncoder};

use super::components::{warn_of_unused, weights};
use crate::connectors::{Connectors, ConnectorsConfig, PromptTokens};

/// The networks for prompts, loaded when they are needed and freed on request.
pub(super) struct Encoders {
    folder: PathBuf,
    options: PipelineOptions,
    config: ConnectorsConfig,
    /// Tokens that a prompt is padded to, with registers.
    length: u32,
    text: CachedTextEncoder<GemmaPromptEncoder>,
    connectors: Component<Connectors>,
}

impl Encoders {
    pub(super) fn new(
        folder: &Path,
        options: PipelineOptions,
        config: ConnectorsConfig,
        length: u32,
    ) -> Self {
        let PipelineOptions { device, kind, text_quantization, .. } = options;
        let (checkpoint, tokens) = (folder.to_owned(), length as usize);
        let text = CachedTextEncoder::new(move || {
            GemmaPromptEncoder::load(&checkpoint, tokens, device, kind, text_quantization)
        });
        Self { folder: folder.to_owned(), options, config, length, text, connectors: Component::empty() }
    }

    /// Loads what is not in memory.
    pub(super) fn load(&mut self) -> Result<(), TensorError> {
        self.text.load()?;
        self.connectors()?;
        Ok(())
    }

    /// A prompt's tokens; notices go to `summary`.
    pub(super) fn prompt(
        &mut self,
        prompt: &str,
        summary: &mut Summary,
    ) -> Result<PromptTokens, TensorError> {
        let EncodedPrompt { embedding, unknown_words, truncated } = self.text.encode(prompt)?;
        summary.add_prompt(unknown_words, truncated);
        let length = i64::from(self.length);
        let states = self.config.text_proj_in_factor;
        let connectors = self.connectors()?;
        catch_libtorch_errors(|| {
            // `[tokens, channels · states]` → each state.
            let states = embedding.view([embedding.size()[0], -1, states]).unbind(-1);
            Ok(connectors.forward(&states, length))
        })
    }

    /// Whether nothing has to be loaded for `prompts`.
    pub(super) fn are_ready(&mut self, prompts: &[&str]) -> bool {
        self.connectors.is_loaded() && prompts.iter().all(|prompt| self.text.is_cached(prompt))
    }

    /// Frees them; the cache of hidden states stays.
    pub(super) fn free(&mut self) {
        if self.text.free() | self.connectors.free() {
            release_memory();
        }
    }

    pub(super) fn resident_bytes(&self) -> u64 {
        self.text.resident_bytes() + self.connectors.loaded().map_or(0, Connectors::resident_bytes)
    }

    fn connectors(&mut self) -> Result<&Connectors, TensorError> {
        let Self { folder, options, config, connectors, .. } = self;
        connectors.get_or_load(|| {
            let weights = weights(&folder.join("connectors"), *options, Quantization::None)?;
            let connectors = Connectors::load(&weights, config.clone())?;
            warn_of_unused(&weights, "connectors");
            Ok(connectors)
        })
    }
}
