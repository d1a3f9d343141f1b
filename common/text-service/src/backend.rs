//! The interface between serving and a model.

use std::{path::PathBuf, sync::Arc};

use videosdgx_api::TextModelDescription;
use videosdgx_decoder_api::Decoder;
use videosdgx_model::{Load, ModelError};

/// The model of a text service. Only [`TextBackend::load`] reads weights.
pub trait TextBackend: Send + Sync + 'static {
    /// The loaded weights and their KV cache. Only the inference thread uses it.
    type Model: Decoder;

    /// Describes the checkpoint. Reads configuration files only. It is called for each request that shows the description, so
    /// that a checkpoint installed while the service runs is found. May block.
    ///
    /// # Errors
    /// [`ModelError::CheckpointMissing`] or [`ModelError::CheckpointInvalid`].
    fn describe(&self) -> Result<TextModelDescription, ModelError>;

    /// The checkpoint's folder, or its GGUF file. Tokenizer, chat template, generation and picture settings are read from it
    /// once, at the first request.
    ///
    /// # Errors
    /// As [`TextBackend::describe`].
    fn location(&self) -> Result<PathBuf, ModelError>;

    /// Peak memory of weights and activations in bytes, without the KV cache; checked against the memory budget before a load.
    ///
    /// # Errors
    /// As [`TextBackend::describe`].
    fn declared_peak(&self) -> Result<u64, ModelError>;

    /// Loads the weights, on the inference thread.
    ///
    /// # Errors
    /// Why it failed; the process continues and the next use tries again.
    fn load(&self) -> Result<Self::Model, ModelError>;

    /// Called on the inference thread after the model was dropped, or after a load that failed: returns what the model's
    /// library keeps, such as a GPU's memory.
    fn model_dropped(&self) {}
}

/// A [`TextBackend`] without its model type, for code that does not load.
pub(crate) trait ErasedBackend: Send + Sync {
    fn describe(&self) -> Result<TextModelDescription, ModelError>;
    fn location(&self) -> Result<PathBuf, ModelError>;
}

impl<B: TextBackend> ErasedBackend for B {
    fn describe(&self) -> Result<TextModelDescription, ModelError> {
        TextBackend::describe(self)
    }

    fn location(&self) -> Result<PathBuf, ModelError> {
        TextBackend::location(self)
    }
}

/// Loads a [`TextBackend`]'s model.
#[derive(Debug)]
pub(crate) struct BackendLoad<B>(pub(crate) Arc<B>);

impl<B: TextBackend> Load for BackendLoad<B> {
    type Model = B::Model;
    type Error = ModelError;

    fn declared_peak(&self) -> Result<u64, ModelError> {
        self.0.declared_peak()
    }

    fn load(&self) -> Result<B::Model, ModelError> {
        self.0.load().inspect_err(ModelError::report_if_device_failed)
    }

    fn model_dropped(&self) {
        self.0.model_dropped();
    }
}
