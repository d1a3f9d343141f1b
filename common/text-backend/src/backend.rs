//! Serves a language model's checkpoint as a [`TextBackend`].

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use videosdgx_api::TextModelDescription;
use videosdgx_decoder::{LoadError, Source, TextModel};
use videosdgx_decoder_api::{Decoder, DecoderError, DecoderShape, Logits, Segment};
use videosdgx_model::{CheckpointLocation, CheckpointVersion, ModelError};
use videosdgx_tensor::{CheckpointError, Kind, TensorError, release_code_pages, release_memory};
use videosdgx_text_service::TextBackend;

use crate::Settings;

/// Name of the demonstration checkpoint.
const DEMONSTRATION: &str = "smollm2-135m";

/// A backend for any language model that [`videosdgx_decoder`] supports.
///
/// ```no_run
/// use videosdgx_shell::ServiceConfig;
/// use videosdgx_text_backend::{DecoderBackend, Settings};
/// use videosdgx_text_service::TextBackend as _;
///
/// let config = ServiceConfig::from_lookup("qwen3-4b", videosdgx_shell::environment)?;
/// let backend = DecoderBackend::new(Settings::from_config(&config)?);
/// println!("{} bytes", backend.declared_peak()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct DecoderBackend {
    settings: Settings,
    /// The last checkpoint that was read.
    cached: Mutex<Option<(CheckpointLocation, CheckpointVersion, CheckpointSummary)>>,
}

/// Description and memory demand of a checkpoint.
#[derive(Clone)]
struct CheckpointSummary {
    description: TextModelDescription,
    /// Peak memory in bytes, without the KV cache.
    peak: u64,
}

/// A loaded model. When it is dropped, the memory pages of libtorch's code are released too.
pub struct LoadedModel(TextModel);

impl Drop for LoadedModel {
    fn drop(&mut self) {
        release_code_pages();
    }
}

impl Decoder for LoadedModel {
    fn shape(&self) -> DecoderShape {
        self.0.shape()
    }

    fn resize_cache(&mut self, blocks: usize) -> Result<(), DecoderError> {
        self.0.resize_cache(blocks)
    }

    fn step(&mut self, segments: &[Segment<'_>]) -> Result<Logits, DecoderError> {
        self.0.step(segments)
    }
}

impl DecoderBackend {
    /// A backend for the configured checkpoint; reads nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        release_code_pages();
        Self { settings, cached: Mutex::new(None) }
    }

    fn open(&self, location: &CheckpointLocation) -> Result<Source, ModelError> {
        Source::open(&location.path).map_err(|error| self.load_error(error))
    }

    /// The checkpoint's summary; the checkpoint is read again only if it is another one or its files have changed.
    fn summary(&self) -> Result<CheckpointSummary, ModelError> {
        let location = self.settings.location()?;
        // When the files cannot be examined, opening them says why.
        let version = CheckpointVersion::of(&location.path).ok();
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, known_version, summary)) = &*cached
            && *known == location
            && Some(*known_version) == version
        {
            return Ok(summary.clone());
        }
        let source = self.open(&location)?;
        let options = &self.settings.options(&source);
        source.vision().map_err(|error| self.load_error(error))?;
        let description = TextModelDescription {
            name: self.settings.name.clone(),
            checkpoint: if location.demonstration { DEMONSTRATION.to_owned() } else { location.name.clone() },
            architecture: source.config().family.architecture().to_owned(),
            demonstration: location.demonstration,
            device: self.settings.device.name(),
            device_reason: self.settings.device.reason.clone(),
            dtype: kind_name(options.kind).to_owned(),
            quantization: source.format(options),
            parameters: source.parameters(),
            max_context: source.config().max_context as u64,
            vision: source.config().vision.is_some(),
        };
        let summary = CheckpointSummary { description, peak: source.memory(options).peak() };
        *cached = version.map(|version| (location, version, summary.clone()));
        Ok(summary)
    }

    fn load_error(&self, error: LoadError) -> ModelError {
        match error {
            LoadError::Config { file, error } => {
                ModelError::CheckpointInvalid { file, reason: error.to_string() }
            }
            LoadError::Tensor(TensorError::Checkpoint(CheckpointError::Missing { path })) => {
                ModelError::CheckpointMissing { hint: self.hint(), path }
            }
            LoadError::Tensor(TensorError::Checkpoint(CheckpointError::Invalid { file, reason, .. })) => {
                ModelError::CheckpointInvalid { file, reason }
            }
            LoadError::Tensor(TensorError::OutOfMemory(detail)) => ModelError::OutOfMemory(detail),
            LoadError::Tensor(TensorError::DeviceFailed(detail)) => ModelError::DeviceFailed(detail),
            LoadError::Tensor(other) => ModelError::failed(other),
        }
    }

    fn hint(&self) -> String {
        let preset = videosdgx_manifest::service(&self.settings.name)
            .map_or("--list", |service| service.default_preset.as_str());
        format!(
            "fetch one with `videosdgx pull {preset}`, fetch the small demonstration model with `scripts/setup smollm2`, or point \
             VIDEOSDGX_CHECKPOINT at a folder with config.json and safetensors or at a GGUF file"
        )
    }
}

impl TextBackend for DecoderBackend {
    type Model = LoadedModel;

    fn describe(&self) -> Result<TextModelDescription, ModelError> {
        self.summary().map(|summary| summary.description)
    }

    fn location(&self) -> Result<PathBuf, ModelError> {
        Ok(self.open(&self.settings.location()?)?.path().to_owned())
    }

    fn declared_peak(&self) -> Result<u64, ModelError> {
        self.summary().map(|summary| summary.peak)
    }

    fn load(&self) -> Result<LoadedModel, ModelError> {
        let source = self.open(&self.settings.location()?)?;
        let memory = source.memory(&self.settings.options(&source));
        tracing::info!(
            checkpoint = %source.path().display(),
            architecture = source.config().family.architecture(),
            weight_bytes = memory.weights,
            peak_bytes = memory.peak(),
            "loading"
        );
        let options = self.settings.options(&source);
        source.load(&options).map(LoadedModel).map_err(|error| self.load_error(error))
    }

    fn model_dropped(&self) {
        release_memory();
    }
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::BFloat16 => "bf16",
        Kind::Half => "f16",
        _ => "f32",
    }
}
