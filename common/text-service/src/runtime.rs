//! What every generation needs besides the weights: tokenizer, chat template, engine.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use videosdgx_api::Problem;
use videosdgx_shell::VERSION;
use videosdgx_text::{
    ChatTemplate, CompilePool, CompilePoolConfig, EngineConfig, Language, OutputFormat, TextAssets,
    TextEngine, Tokenizer,
    image::PicturePreprocessor,
    streaming::{StreamingComputationEngine, StreamingConfig, create_streaming_engine},
};

use crate::{
    backend::TextCheckpoint,
    checkpoints::OpenedCheckpoint,
    metrics::TextMetrics,
    sampling::CheckpointSampling,
    settings::{ImageUrls, TextSettings},
};

/// Starts the engine on the backend's model loader, without naming the backend's types.
pub(crate) type StartEngine =
    Box<dyn Fn(EngineConfig, Arc<dyn Language>) -> std::io::Result<TextEngine> + Send + Sync>;

/// Tokenizer, chat template and engine of the checkpoint.
pub(crate) struct ModelRuntime {
    pub(crate) assets: TextAssets,
    pub(crate) tokenizer: Tokenizer,
    /// None: the checkpoint has no chat template and serves text completions only.
    pub(crate) template: Option<ChatTemplate>,
    pub(crate) format: OutputFormat,
    /// None: the model does not accept pictures.
    pub(crate) images: Option<PicturePreprocessor>,
    pub(crate) image_urls: ImageUrls,
    /// Compiles output constraints.
    pub(crate) constraints: CompilePool,
    pub(crate) engine: TextEngine,
    /// Runs the prompts of `/stream/generate` on `engine`.
    pub(crate) streaming: StreamingComputationEngine,
    /// Maximum number of tokens of prompt and answer together.
    pub(crate) max_context: usize,
    /// OpenAI's `system_fingerprint`: identifies program version and checkpoint.
    pub(crate) fingerprint: String,
    /// Counts how generations end.
    pub(crate) metrics: TextMetrics,
    /// The checkpoint that everything above belongs to.
    pub(crate) opened: Arc<OpenedCheckpoint>,
}

impl ModelRuntime {
    /// Starts the engine for a checkpoint that was opened. Loads no weights.
    pub(crate) fn start(
        service_name: &str,
        opened: Arc<OpenedCheckpoint>,
        settings: &TextSettings,
        start_engine: &StartEngine,
        metrics: TextMetrics,
    ) -> Result<Self, Problem> {
        let model = &opened.checkpoint.description;
        let constraints = CompilePool::start(opened.constraints.clone(), CompilePoolConfig::default())
            .map_err(|error| Problem::new(videosdgx_api::Code::Internal, error.to_string()))?;
        let context = usize::try_from(model.max_context).unwrap_or(usize::MAX);
        let mut config = settings.engine(service_name, context.min(opened.assets.context_length()));
        config.checkpoint = opened.version().number();
        let max_context = config.max_context;
        let language = Arc::clone(&opened.language);
        let engine = start_engine(config, language)
            .map_err(|error| Problem::new(videosdgx_api::Code::Internal, error.to_string()))?;
        let streaming = create_streaming_engine(
            engine.clone(),
            StreamingConfig {
                max_concurrent_requests: settings.max_concurrent_requests,
                buffer_size: settings.buffer_size,
            },
        );
        tracing::info!(checkpoint = model.checkpoint, max_context, "engine_started");
        let images = opened.images.clone();
        Ok(Self {
            assets: opened.assets.clone(),
            tokenizer: opened.tokenizer.clone(),
            template: opened.template.clone(),
            format: opened.format,
            // A picture takes at most half of the context: a larger one is scaled down instead of refused.
            images: images.map(|processor| processor.with_max_tokens(max_context / 2)),
            image_urls: settings.image_urls,
            constraints,
            engine,
            streaming,
            max_context,
            fingerprint: fingerprint(&opened.checkpoint),
            metrics,
            opened,
        })
    }

    /// Token ids are below this.
    pub(crate) fn vocab(&self) -> usize {
        self.opened.vocab()
    }

    /// Refuses a prompt with a token for which the model has no embedding; `field` is where the prompt was sent.
    pub(crate) fn check_tokens(&self, tokens: &[u32], field: &str) -> Result<(), Problem> {
        let vocab = self.vocab();
        match tokens.iter().find(|id| **id as usize >= vocab) {
            Some(id) => {
                let detail = format!("the prompt has {}", self.opened.outside_of_embedding(*id));
                Err(Problem::field(field, detail).with_limit(vocab))
            }
            None => Ok(()),
        }
    }

    /// The checkpoint's defaults and limits for sampling parameters.
    pub(crate) fn checkpoint_sampling(&self) -> CheckpointSampling<'_> {
        CheckpointSampling {
            defaults: self.assets.defaults(),
            end_tokens: self.assets.end_tokens(),
            vocab: self.vocab(),
        }
    }
}

/// Two answers with the same seed are identical as long as the fingerprint is.
fn fingerprint(checkpoint: &TextCheckpoint) -> String {
    let model = &checkpoint.description;
    let mut hasher = DefaultHasher::new();
    (VERSION, &model.checkpoint, &model.device, &model.dtype, &model.quantization, model.parameters)
        .hash(&mut hasher);
    checkpoint.version.hash(&mut hasher);
    format!("fp_{:012x}", hasher.finish() & 0xffff_ffff_ffff)
}
