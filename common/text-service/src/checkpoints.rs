//! The checkpoint that a service serves: its tokenizer, template and weights always belong together.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;
use videosdgx_api::TextModelDescription;
use videosdgx_decoder_api::{Decoder, DecoderError, DecoderShape, Logits, Segment};
use videosdgx_model::{CheckpointVersion, Load, ModelError};
use videosdgx_text::{
    AssetsError, ChatTemplate, CheckpointLanguage, ConstraintCompiler, OutputFormat, TemplateInput,
    TextAssets, Tokenizer, ToolFormat, image::PicturePreprocessor,
};

use crate::backend::{ErasedBackend, TextBackend, TextCheckpoint};

/// Everything that a request needs besides the weights, read from one state of the checkpoint's files.
pub(crate) struct OpenedCheckpoint {
    pub(crate) checkpoint: TextCheckpoint,
    pub(crate) assets: TextAssets,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) language: Arc<CheckpointLanguage>,
    /// None: the checkpoint has no chat template and serves text completions only.
    pub(crate) template: Option<ChatTemplate>,
    pub(crate) format: OutputFormat,
    /// How tools are called, and whether that is the general form because the template has none of its own. None: no template.
    pub(crate) tool_format: Option<(ToolFormat, bool)>,
    /// Compiles output constraints.
    pub(crate) constraints: ConstraintCompiler,
    /// None: the model does not accept pictures.
    pub(crate) images: Option<PicturePreprocessor>,
}

impl OpenedCheckpoint {
    /// Reads tokenizer, template and settings, and checks what every request depends on.
    fn open(checkpoint: TextCheckpoint) -> Result<Self, ModelError> {
        let location = &checkpoint.location;
        let assets = TextAssets::open(location).map_err(assets_error)?;
        let language = Arc::new(assets.language().map_err(assets_error)?);
        let tokenizer = assets.tokenizer().map_err(assets_error)?.clone();
        let template = assets.template().map_err(assets_error)?.cloned();
        let format = assets.output_format().map_err(assets_error)?;
        let tool_format = assets.tool_format().map_err(assets_error)?;
        let constraints = assets.constraints().map_err(assets_error)?.clone();
        let images = if checkpoint.description.vision {
            let processor = PicturePreprocessor::open(location);
            Some(processor.map_err(|error| invalid(location, error.to_string()))?)
        } else {
            None
        };
        let opened = Self {
            checkpoint,
            assets,
            tokenizer,
            language,
            template,
            format,
            tool_format,
            constraints,
            images,
        };
        opened.check()?;
        Ok(opened)
    }

    pub(crate) fn version(&self) -> CheckpointVersion {
        self.checkpoint.version
    }

    /// Token ids of prompts and answers are below this: they have a text and a row of the embedding.
    pub(crate) fn vocab(&self) -> usize {
        self.tokenizer.vocab_size().min(self.checkpoint.vocab)
    }

    /// Refuses a checkpoint with which no answer could end, or every chat would fail.
    fn check(&self) -> Result<(), ModelError> {
        let (vocab, location) = (self.vocab(), &self.checkpoint.location);
        if !self.assets.end_tokens().iter().any(|id| (*id as usize) < vocab) {
            let reason = format!(
                "no token ends an answer: eos_token_id (generation_config.json, config.json, or the tokenizer's eos_token) must \
                 name a token below {vocab}"
            );
            return Err(invalid(location, reason));
        }
        let Some(template) = &self.template else { return Ok(()) };
        let messages = vec![json!({ "role": "user", "content": "a" })];
        let input = TemplateInput { messages, add_generation_prompt: true, ..TemplateInput::default() };
        // Templates may refuse a conversation; that this one is refused says nothing about others.
        let Ok(rendered) = template.render(&input) else { return Ok(()) };
        let tokens = self.tokenizer.encode_rendered(&rendered).unwrap_or_default();
        match tokens.into_iter().find(|id| *id as usize >= vocab) {
            Some(id) => {
                let reason = format!("the chat template writes {}", self.outside_of_embedding(id));
                Err(invalid(location, reason))
            }
            None => Ok(()),
        }
    }

    /// Says that the model has no embedding for token `id`.
    pub(crate) fn outside_of_embedding(&self, id: u32) -> String {
        let text = self.tokenizer.token_bytes(id).map(String::from_utf8_lossy).unwrap_or_default();
        format!(
            "token {id} ({text:?}), for which the model has no embedding: it has {}",
            self.checkpoint.vocab
        )
    }
}

fn invalid(location: &Path, reason: String) -> ModelError {
    ModelError::CheckpointInvalid { file: location.to_owned(), reason }
}

fn assets_error(error: AssetsError) -> ModelError {
    let reason = error.to_string();
    match error {
        AssetsError::Missing { path } => ModelError::CheckpointMissing {
            path,
            hint: "the file is part of the checkpoint: download the checkpoint again with `videosdgx pull`"
                .to_owned(),
        },
        AssetsError::Invalid { path, source } => {
            ModelError::CheckpointInvalid { file: path, reason: source.to_string() }
        }
        AssetsError::Unreadable { path, .. } => ModelError::CheckpointInvalid { file: path, reason },
    }
}

/// The checkpoint that requests use: while a model is loaded, the loaded one; else the one that is installed.
pub(crate) struct Checkpoints {
    backend: Arc<dyn ErasedBackend>,
    /// The one that was opened last. Locked while one is opened.
    opened: Mutex<Option<Arc<OpenedCheckpoint>>>,
    /// The one whose weights are in memory. Never locked for long.
    loaded: Mutex<Option<Arc<OpenedCheckpoint>>>,
}

impl Checkpoints {
    pub(crate) fn new(backend: Arc<dyn ErasedBackend>) -> Self {
        Self { backend, opened: Mutex::default(), loaded: Mutex::default() }
    }

    /// The checkpoint whose weights are in memory.
    pub(crate) fn loaded(&self) -> Option<Arc<OpenedCheckpoint>> {
        lock(&self.loaded).clone()
    }

    /// The loaded checkpoint, else the installed one, which is opened if it has changed. Blocks; may take seconds.
    pub(crate) fn current(&self) -> Result<Arc<OpenedCheckpoint>, ModelError> {
        match self.loaded() {
            Some(loaded) => Ok(loaded),
            None => self.installed(),
        }
    }

    /// The description of the loaded checkpoint, else of the installed one. Blocks.
    pub(crate) fn describe(&self) -> Result<TextModelDescription, ModelError> {
        match self.loaded() {
            Some(loaded) => Ok(loaded.checkpoint.description.clone()),
            None => self.backend.checkpoint().map(|checkpoint| checkpoint.description),
        }
    }

    /// The installed checkpoint, opened again only if it has changed.
    fn installed(&self) -> Result<Arc<OpenedCheckpoint>, ModelError> {
        let checkpoint = self.backend.checkpoint()?;
        // Opened under the lock: of concurrent callers the first one opens it for all.
        let mut last = lock(&self.opened);
        if let Some(opened) = last.as_ref().filter(|opened| opened.checkpoint == checkpoint) {
            return Ok(Arc::clone(opened));
        }
        let opened = Arc::new(OpenedCheckpoint::open(checkpoint)?);
        *last = Some(Arc::clone(&opened));
        Ok(opened)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Loads a backend's model together with everything else that requests need.
pub(crate) struct BackendLoad<B> {
    pub(crate) backend: Arc<B>,
    pub(crate) checkpoints: Arc<Checkpoints>,
}

impl<B: TextBackend> Load for BackendLoad<B> {
    type Model = LoadedModel<B::Model>;
    type Error = ModelError;

    fn declared_peak(&self) -> Result<u64, ModelError> {
        Ok(TextBackend::checkpoint(&*self.backend)?.peak)
    }

    fn load(&self) -> Result<Self::Model, ModelError> {
        let opened = self.checkpoints.installed()?;
        let load = self.backend.load(&opened.checkpoint);
        let model = load.inspect_err(ModelError::report_if_device_failed)?;
        if TextBackend::checkpoint(&*self.backend)?.version != opened.version() {
            let reason = "its files changed while it was loaded; load it again when they are complete";
            return Err(invalid(&opened.checkpoint.location, reason.to_owned()));
        }
        let version = opened.version();
        *lock(&self.checkpoints.loaded) = Some(opened);
        Ok(LoadedModel { model, version, checkpoints: Arc::clone(&self.checkpoints) })
    }

    fn model_dropped(&self) {
        self.backend.model_dropped();
    }
}

/// A model in memory; while it exists, its checkpoint is the one that requests use.
pub(crate) struct LoadedModel<M> {
    model: M,
    version: CheckpointVersion,
    checkpoints: Arc<Checkpoints>,
}

impl<M> Drop for LoadedModel<M> {
    fn drop(&mut self) {
        *lock(&self.checkpoints.loaded) = None;
    }
}

impl<M: Decoder> Decoder for LoadedModel<M> {
    fn shape(&self) -> DecoderShape {
        self.model.shape()
    }

    fn checkpoint(&self) -> u64 {
        self.version.number()
    }

    fn resize_cache(&mut self, blocks: usize) -> Result<(), DecoderError> {
        self.model.resize_cache(blocks)
    }

    fn step(&mut self, segments: &[Segment<'_>]) -> Result<Logits, DecoderError> {
        self.model.step(segments)
    }
}
