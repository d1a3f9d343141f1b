//! What every generation needs besides the weights: tokenizer, chat template, engine.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use videosdgx_api::{Problem, TextModelDescription};
use videosdgx_model::ModelError;
use videosdgx_shell::VERSION;
use videosdgx_text::{
    AssetsError, ChatTemplate, CompilePool, CompilePoolConfig, EngineConfig, Language, OutputFormat,
    TextAssets, TextEngine, Tokenizer,
    image::PicturePreprocessor,
    streaming::{StreamingComputationEngine, StreamingConfig, create_streaming_engine},
};

use crate::{
    backend::ErasedBackend,
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
}

impl ModelRuntime {
    /// Reads the checkpoint's tokenizer, template and settings and starts the engine. Blocks; may take seconds.
    pub(crate) fn open(
        service_name: &str,
        backend: &dyn ErasedBackend,
        settings: &TextSettings,
        start_engine: &StartEngine,
        metrics: TextMetrics,
    ) -> Result<Self, Problem> {
        let model = backend.describe()?;
        let location = backend.location()?;
        let assets = TextAssets::open(&location).map_err(assets_problem)?;
        let language = assets.language().map_err(assets_problem)?;
        let tokenizer = assets.tokenizer().map_err(assets_problem)?.clone();
        let template = assets.template().map_err(assets_problem)?.cloned();
        let format = assets.output_format().map_err(assets_problem)?;
        let images = if model.vision {
            let processor = PicturePreprocessor::open(&location).map_err(|error| {
                Problem::from(ModelError::CheckpointInvalid {
                    file: location.clone(),
                    reason: error.to_string(),
                })
            })?;
            Some(processor)
        } else {
            None
        };
        let compiler = assets.constraints().map_err(assets_problem)?.clone();
        let constraints = CompilePool::start(compiler, CompilePoolConfig::default())
            .map_err(|error| Problem::new(videosdgx_api::Code::Internal, error.to_string()))?;
        let context = usize::try_from(model.max_context).unwrap_or(usize::MAX);
        let config = settings.engine(service_name, context.min(assets.context_length()));
        let max_context = config.max_context;
        let engine = start_engine(config, Arc::new(language))
            .map_err(|error| Problem::new(videosdgx_api::Code::Internal, error.to_string()))?;
        let streaming = create_streaming_engine(
            engine.clone(),
            StreamingConfig {
                max_concurrent_requests: settings.max_concurrent_requests,
                buffer_size: settings.buffer_size,
            },
        );
        tracing::info!(checkpoint = model.checkpoint, max_context, "engine_started");
        Ok(Self {
            assets,
            tokenizer,
            template,
            format,
            // A picture takes at most half of the context: a larger one is scaled down instead of refused.
            images: images.map(|processor| processor.with_max_tokens(max_context / 2)),
            image_urls: settings.image_urls,
            constraints,
            engine,
            streaming,
            max_context,
            fingerprint: fingerprint(&model),
            metrics,
        })
    }

    /// The checkpoint's defaults and limits for sampling parameters.
    pub(crate) fn checkpoint_sampling(&self) -> CheckpointSampling<'_> {
        CheckpointSampling {
            defaults: self.assets.defaults(),
            end_tokens: self.assets.end_tokens(),
            vocab: self.tokenizer.vocab_size(),
        }
    }
}

fn assets_problem(error: AssetsError) -> Problem {
    let reason = error.to_string();
    Problem::from(match error {
        AssetsError::Missing { path } => ModelError::CheckpointMissing {
            path,
            hint: "the file is part of the checkpoint: download the checkpoint again with `videosdgx pull`"
                .to_owned(),
        },
        AssetsError::Invalid { path, source } => {
            ModelError::CheckpointInvalid { file: path, reason: source.to_string() }
        }
        AssetsError::Unreadable { path, .. } => ModelError::CheckpointInvalid { file: path, reason },
    })
}

/// Two answers with the same seed are identical as long as the fingerprint is.
fn fingerprint(model: &TextModelDescription) -> String {
    let mut hasher = DefaultHasher::new();
    (VERSION, &model.checkpoint, &model.device, &model.dtype, &model.quantization, model.parameters)
        .hash(&mut hasher);
    format!("fp_{:012x}", hasher.finish() & 0xffff_ffff_ffff)
}
