//! The wall between serving and a model.

use std::{path::PathBuf, sync::Arc};

use videosdgx_api::TextModel;
use videosdgx_decoder_api::Decoder;
use videosdgx_model::Load;
use videosdgx_service::EngineError;

/// What a text service plugs into the skeleton. Only [`TextBackend::load`] touches weights.
pub trait TextBackend: Send + Sync + 'static {
    /// The loaded weights and their KV cache. Only the inference thread sees it.
    type Model: Decoder;

    /// What the checkpoint is; reads configuration files only and is called at each request for it, so that a checkpoint which
    /// appears while the service runs is seen. May block.
    ///
    /// # Errors
    /// [`EngineError::CheckpointMissing`] or [`EngineError::CheckpointInvalid`].
    fn describe(&self) -> Result<TextModel, EngineError>;

    /// The checkpoint's folder, or its GGUF file: tokenizer, chat template, generation and picture settings are read from there,
    /// once, at the first request.
    ///
    /// # Errors
    /// As [`TextBackend::describe`].
    fn location(&self) -> Result<PathBuf, EngineError>;

    /// Most bytes that weights and computing will need, without the KV cache, for the memory budget.
    ///
    /// # Errors
    /// As [`TextBackend::describe`].
    fn declared_peak(&self) -> Result<u64, EngineError>;

    /// Brings the weights into memory, on the inference thread.
    ///
    /// # Errors
    /// Why it cannot; the process goes on and the next use tries again.
    fn load(&self) -> Result<Self::Model, EngineError>;
}

/// A backend without its types: what routes may ask of it.
pub(crate) trait Front: Send + Sync {
    fn describe(&self) -> Result<TextModel, EngineError>;
    fn location(&self) -> Result<PathBuf, EngineError>;
}

impl<B: TextBackend> Front for B {
    fn describe(&self) -> Result<TextModel, EngineError> {
        TextBackend::describe(self)
    }

    fn location(&self) -> Result<PathBuf, EngineError> {
        TextBackend::location(self)
    }
}

/// A backend as something to load.
#[derive(Debug)]
pub(crate) struct BackendLoad<B>(pub(crate) Arc<B>);

impl<B: TextBackend> Load for BackendLoad<B> {
    type Model = B::Model;
    type Error = EngineError;

    fn declared_peak(&self) -> Result<u64, EngineError> {
        self.0.declared_peak()
    }

    fn load(&self) -> Result<B::Model, EngineError> {
        self.0.load()
    }
}
