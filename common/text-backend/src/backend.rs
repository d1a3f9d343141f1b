//! Serves a language model's checkpoint as a [`TextBackend`].

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use videosdgx_api::TextModelDescription;
use videosdgx_decoder::{LoadError, Source, TextModel};
use videosdgx_decoder_api::{Decoder, DecoderError, DecoderShape, Logits, Segment};
use videosdgx_model::{CheckpointLocation, CheckpointVersion, ModelError};
use videosdgx_tensor::{CheckpointError, Kind, TensorError, release_code_pages, release_memory};
use videosdgx_text_service::{TextBackend, TextCheckpoint};

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
/// println!("{} bytes", backend.checkpoint()?.peak);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct DecoderBackend {
    settings: Settings,
    /// The last checkpoint that was read.
    cached: Mutex<Option<(CheckpointLocation, TextCheckpoint)>>,
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

    fn open(&self, location: &Path) -> Result<Source, ModelError> {
        Source::open(location).map_err(|error| self.load_error(error))
    }

    /// Reads configuration and headers of a checkpoint whose files had this version before.
    fn read(
        &self,
        location: &CheckpointLocation,
        version: std::io::Result<CheckpointVersion>,
    ) -> Result<TextCheckpoint, ModelError> {
        // Opening reports what is missing.
        let source = self.open(&location.path)?;
        let version = version.map_err(ModelError::failed)?;
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
        Ok(TextCheckpoint {
            description,
            location: source.path().to_owned(),
            version,
            vocab: usize::try_from(source.config().vocab).unwrap_or(0),
            peak: source.memory(options).peak(),
        })
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

    fn checkpoint(&self) -> Result<TextCheckpoint, ModelError> {
        let location = self.settings.location()?;
        let version = CheckpointVersion::of(&location.path);
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, checkpoint)) = &*cached
            && *known == location
            && version.as_ref().is_ok_and(|version| *version == checkpoint.version)
        {
            return Ok(checkpoint.clone());
        }
        let checkpoint = self.read(&location, version)?;
        *cached = Some((location, checkpoint.clone()));
        Ok(checkpoint)
    }

    fn load(&self, checkpoint: &TextCheckpoint) -> Result<LoadedModel, ModelError> {
        let source = self.open(&checkpoint.location)?;
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
