//! A checkpoint as a service's [`TextBackend`].

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use videosdgx_api::TextModelDescription;
use videosdgx_decoder::{LoadError, Source, TextModel};
use videosdgx_decoder_api::{Decoder, DecoderError, DecoderShape, Logits, Segment};
use videosdgx_model::ModelError;
use videosdgx_tensor::{CheckpointError, Device, Kind, TensorError, release_code_pages};
use videosdgx_text_service::TextBackend;

use crate::Settings;

/// What the demonstration checkpoint is called.
const DEMONSTRATION: &str = "smollm2-135m";

/// Any language model that [`videosdgx_decoder`] computes.
pub struct DecoderBackend {
    settings: Settings,
    /// What was found at a place when its files were of that time.
    known: Mutex<Option<(PathBuf, SystemTime, Found)>>,
}

/// What is said of a checkpoint.
#[derive(Clone)]
struct Found {
    description: TextModelDescription,
    peak: u64,
}

/// A loaded model. When it goes, so does libtorch's code.
pub struct Loaded(TextModel);

impl Drop for Loaded {
    fn drop(&mut self) {
        release_code_pages();
    }
}

impl Decoder for Loaded {
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
    /// Reads nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        release_code_pages();
        Self { settings, known: Mutex::new(None) }
    }

    fn open(&self) -> Result<Source, ModelError> {
        let (path, _) = self.settings.location();
        Source::open(&path).map_err(|error| self.refused(error))
    }

    /// Looks at the checkpoint again only when another lies there.
    fn found(&self) -> Result<Found, ModelError> {
        let (path, demonstration) = self.settings.location();
        let time = modified(&path);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*known, time) {
            (Some((place, then, found)), Some(time)) if *place == path && *then == time => {
                return Ok(found.clone());
            }
            _ => {}
        }
        let source = self.open()?;
        let options = &self.settings.options(&source);
        source.vision().map_err(|error| self.refused(error))?;
        let description = TextModelDescription {
            name: self.settings.name.clone(),
            checkpoint: if demonstration { DEMONSTRATION.to_owned() } else { name_of(&path) },
            architecture: source.config().family.architecture().to_owned(),
            demonstration,
            device: device_name(options.device),
            dtype: kind_name(options.kind).to_owned(),
            quantization: source.format(options),
            parameters: source.parameters(),
            max_context: source.config().max_context as u64,
            vision: source.config().vision.is_some(),
        };
        let found = Found { description, peak: source.memory(options).peak() };
        *known = time.map(|time| (path, time, found.clone()));
        Ok(found)
    }

    fn refused(&self, error: LoadError) -> ModelError {
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
    type Model = Loaded;

    fn describe(&self) -> Result<TextModelDescription, ModelError> {
        self.found().map(|found| found.description)
    }

    fn location(&self) -> Result<PathBuf, ModelError> {
        Ok(self.open()?.path().to_owned())
    }

    fn declared_peak(&self) -> Result<u64, ModelError> {
        self.found().map(|found| found.peak)
    }

    fn load(&self) -> Result<Loaded, ModelError> {
        let source = self.open()?;
        let need = source.memory(&self.settings.options(&source));
        tracing::info!(
            checkpoint = %source.path().display(),
            architecture = source.config().family.architecture(),
            weight_bytes = need.weights,
            peak_bytes = need.peak(),
            "loading"
        );
        let options = self.settings.options(&source);
        source.load(&options).map(Loaded).map_err(|error| self.refused(error))
    }
}

/// When what lies at `path` last changed: the folder (a file came or went) and its configuration.
fn modified(path: &Path) -> Option<SystemTime> {
    let time = |path: &Path| std::fs::metadata(path).and_then(|data| data.modified()).ok();
    time(path).max(time(&path.join("config.json")))
}

/// The last part of a path, without the ending of a file.
fn name_of(path: &Path) -> String {
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    name.map_or_else(|| "checkpoint".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn device_name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        _ => "cpu".to_owned(),
    }
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::BFloat16 => "bf16",
        Kind::Half => "f16",
        _ => "f32",
    }
}
