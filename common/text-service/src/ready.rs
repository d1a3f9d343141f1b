//! What every generation needs beside the weights: tokenizer, template, engine.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use videosdgx_api::{Problem, TextModel};
use videosdgx_model::ModelError;
use videosdgx_shell::VERSION;
use videosdgx_text::{
    AssetsError, ChatTemplate, OutputFormat, TextAssets, TextEngine, Tokenizer,
    image::PicturePreprocessor,
    streaming::{StreamingComputationEngine, StreamingConfig, create_streaming_engine},
};

use crate::service::TextService;

/// Tokenizer, template and engine of the checkpoint.
pub(crate) struct Ready {
    pub(crate) assets: TextAssets,
    pub(crate) tokenizer: Tokenizer,
    /// None: the checkpoint completes texts only.
    pub(crate) template: Option<ChatTemplate>,
    pub(crate) format: OutputFormat,
    /// None: it takes no pictures.
    pub(crate) images: Option<PicturePreprocessor>,
    pub(crate) engine: TextEngine,
    pub(crate) streaming: StreamingComputationEngine,
    /// Most tokens of prompt and answer together.
    pub(crate) max_context: usize,
    /// Names program and checkpoint.
    pub(crate) fingerprint: String,
}

impl Ready {
    /// Reads what belongs to the checkpoint and starts the engine. May take seconds.
    pub(crate) fn prepare(service: &TextService) -> Result<Arc<Self>, Problem> {
        let model = service.front.describe()?;
        let location = service.front.location()?;
        let assets = TextAssets::open(&location).map_err(unusable)?;
        let language = assets.language().map_err(unusable)?;
        let tokenizer = assets.tokenizer().map_err(unusable)?.clone();
        let template = assets.template().map_err(unusable)?.cloned();
        let format = assets.output_format().map_err(unusable)?;
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
        let context = usize::try_from(model.max_context).unwrap_or(usize::MAX);
        let config = service.settings.engine(service.name(), context.min(assets.context_length()));
        let max_context = config.max_context;
        let engine = (service.start_engine)(config, Arc::new(language))
            .map_err(|error| Problem::new(videosdgx_api::Code::Internal, error.to_string()))?;
        let streaming = create_streaming_engine(
            engine.clone(),
            StreamingConfig {
                max_concurrent_requests: service.settings.max_concurrent_requests,
                buffer_size: service.settings.buffer_size,
            },
        );
        tracing::info!(checkpoint = model.checkpoint, max_context, "engine_started");
        let fingerprint = fingerprint(&model);
        Ok(Arc::new(Self {
            assets,
            tokenizer,
            template,
            format,
            // A large photograph is looked at smaller rather than refused for want of context.
            images: images.map(|processor| processor.with_most_tokens(max_context / 2)),
            engine,
            streaming,
            max_context,
            fingerprint,
        }))
    }
}

fn unusable(error: AssetsError) -> Problem {
    let reason = error.to_string();
    Problem::from(match error {
        AssetsError::Missing { path } => ModelError::CheckpointMissing {
            path,
            hint: "it belongs to the checkpoint: fetch it again with videosdgx pull".to_owned(),
        },
        AssetsError::Invalid { path, reason } => ModelError::CheckpointInvalid { file: path, reason },
        AssetsError::Unreadable { path, .. } => ModelError::CheckpointInvalid { file: path, reason },
    })
}

/// Answers of one seed are alike while this is the same.
fn fingerprint(model: &TextModel) -> String {
    let mut hasher = DefaultHasher::new();
    (VERSION, &model.checkpoint, &model.device, &model.dtype, &model.quantization, model.parameters)
        .hash(&mut hasher);
    format!("fp_{:012x}", hasher.finish() & 0xffff_ffff_ffff)
}
