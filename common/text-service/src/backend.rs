//! The interface between serving and a model.

use std::path::PathBuf;

use videosdgx_api::TextModelDescription;
use videosdgx_decoder_api::Decoder;
use videosdgx_model::{CheckpointVersion, ModelError};

/// The model of a text service. Only [`TextBackend::load`] reads weights.
pub trait TextBackend: Send + Sync + 'static {
    /// The loaded weights and their KV cache. Only the inference thread uses it.
    type Model: Decoder;

    /// The installed checkpoint, which the next load uses. Reads configuration files and headers only, and only if they have
    /// changed: it is called whenever a request needs a model that is not in memory. May block.
    ///
    /// # Errors
    /// [`ModelError::CheckpointMissing`] or [`ModelError::CheckpointInvalid`].
    fn checkpoint(&self) -> Result<TextCheckpoint, ModelError>;

    /// Loads the weights of `checkpoint`, on the inference thread. Tokenizer, chat template and the other files were opened
    /// before, so that a load that succeeds means that requests can be answered.
    ///
    /// # Errors
    /// Why it failed; the process continues and the next use tries again.
    fn load(&self, checkpoint: &TextCheckpoint) -> Result<Self::Model, ModelError>;

    /// Called on the inference thread after the model was dropped, or after a load that failed: returns what the model's
    /// library keeps, such as a GPU's memory.
    fn model_dropped(&self) {}
}

/// A checkpoint as its configuration files and headers describe it.
#[derive(Debug, Clone, PartialEq)]
pub struct TextCheckpoint {
    /// What `/info` shows.
    pub description: TextModelDescription,
    /// Its folder, or its GGUF file. Tokenizer, chat template, generation and picture settings are read from it.
    pub location: PathBuf,
    /// The state of its files.
    pub version: CheckpointVersion,
    /// Rows of the embedding: the tokens of a prompt are below.
    pub vocab: usize,
    /// Peak memory of weights and activations in bytes, without the KV cache; checked against the memory budget before a load.
    pub peak: u64,
}

/// A [`TextBackend`] without its model type, for code that does not load.
pub(crate) trait ErasedBackend: Send + Sync {
    fn checkpoint(&self) -> Result<TextCheckpoint, ModelError>;
}

impl<B: TextBackend> ErasedBackend for B {
    fn checkpoint(&self) -> Result<TextCheckpoint, ModelError> {
        TextBackend::checkpoint(self)
    }
}
