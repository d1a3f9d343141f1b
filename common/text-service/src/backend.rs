//! The wall between serving and a model.

use std::{path::PathBuf, sync::Arc};

use videosdgx_api::TextModel;
use videosdgx_decoder_api::Decoder;
use videosdgx_model::Load;
use videosdgx_model::ModelError;

/// What a text service plugs into the skeleton. Only [`TextBackend::load`] touches weights.
pub trait TextBackend: Send + Sync + 'static {
    /// The loaded weights and their KV cache. Only the inference thread sees it.
    type Model: Decoder;

    /// What the checkpoint is; reads configuration files only and is called at each request for it, so that a checkpoint which
    /// appears while the service runs is seen. May block.
    ///
    /// # Errors
    /// [`ModelError::CheckpointMissing`] or [`ModelError::CheckpointInvalid`].
    fn describe(&self) -> Result<TextModel, ModelError>;

    /// The checkpoint's folder, or its GGUF file: tokenizer, chat template, generation and picture settings are read from there,
    /// once, at the first request.
    ///
    /// # Errors
    /// As [`TextBackend::describe`].
    fn location(&self) -> Result<PathBuf, ModelError>;

    /// Most bytes that weights and computing will need, without the KV cache, for the memory budget.
    ///
    /// # Errors
    /// As [`TextBackend::describe`].
    fn declared_peak(&self) -> Result<u64, ModelError>;

    /// Brings the weights into memory, on the inference thread.
    ///
    /// # Errors
    /// Why it cannot; the process goes on and the next use tries again.
    fn load(&self) -> Result<Self::Model, ModelError>;
}

/// A backend without its types: what routes may ask of it.
pub(crate) trait ErasedBackend: Send + Sync {
    fn describe(&self) -> Result<TextModel, ModelError>;
    fn location(&self) -> Result<PathBuf, ModelError>;
}

impl<B: TextBackend> ErasedBackend for B {
    fn describe(&self) -> Result<TextModel, ModelError> {
        TextBackend::describe(self)
    }

    fn location(&self) -> Result<PathBuf, ModelError> {
        TextBackend::location(self)
    }
}

/// A backend as something to load.
#[derive(Debug)]
pub(crate) struct BackendLoad<B>(pub(crate) Arc<B>);

impl<B: TextBackend> Load for BackendLoad<B> {
    type Model = B::Model;
    type Error = ModelError;

    fn declared_peak(&self) -> Result<u64, ModelError> {
        self.0.declared_peak()
    }

    fn load(&self) -> Result<B::Model, ModelError> {
        self.0.load()
    }
}
