//! Which checkpoint is served, on which device and in which number format.

use std::path::PathBuf;

use videosdgx_decoder::{LoadOptions, Source};
use videosdgx_model::{CheckpointFormat, CheckpointLocation, CheckpointSearch, ModelError};
use videosdgx_shell::{ConfigError, ServiceConfig, Variables, environment};
use videosdgx_tensor::{ChosenDevice, DtypeChoice, Quantization, TensorError, choose_device};

/// Path of the demonstration checkpoint in the container image.
const INSTALLED_DEMONSTRATION: &str = "/usr/share/videosdgx/smollm2-135m";
/// The demonstration checkpoint of text services; takes precedence over `VIDEOSDGX_DEMO_CHECKPOINT`, which all services read.
const DEMONSTRATION_VARIABLE: &str = "VIDEOSDGX_DEMO_TEXT_CHECKPOINT";

/// Folder that caches weights which were quantised while loading; default: no cache.
const WEIGHT_CACHE_VARIABLE: &str = "VIDEOSDGX_QUANTIZED_DIR";

/// Number format of the KV cache: `auto` (default), `bf16`, `f16` or `f32`.
const CACHE_VARIABLE: &str = "VIDEOSDGX_KV_CACHE_DTYPE";

/// Why the settings are invalid.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The device is not available.
    #[error(transparent)]
    Device(#[from] TensorError),
    /// A variable has an invalid value.
    #[error(transparent)]
    Variable(#[from] ConfigError),
}

/// The part of the service's configuration that concerns its language model.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The service's name.
    pub name: String,
    /// `VIDEOSDGX_CHECKPOINT`: a folder or a GGUF file. If set, no other checkpoint is used, even if it is missing.
    pub checkpoint: Option<PathBuf>,
    /// `VIDEOSDGX_MODELS_DIR`/`name`, used if anything is there and `checkpoint` is not set.
    pub installed: PathBuf,
    /// The demonstration checkpoint, used if nothing is at `installed`.
    pub demonstration: PathBuf,
    /// Where the model is computed.
    pub device: ChosenDevice,
    /// Number format of the computation.
    pub dtype: DtypeChoice,
    /// Number format of the KV cache.
    pub cache_dtype: DtypeChoice,
    /// Quantization of the linear layers' weights.
    pub quantization: Quantization,
    /// `VIDEOSDGX_QUANTIZED_DIR`: folder that caches weights which were quantised while loading.
    pub weight_cache: Option<PathBuf>,
}

impl Settings {
    /// Reads the service's configuration and the environment and resolves the device `auto`.
    ///
    /// # Errors
    /// If the device is not available or a variable has an invalid value.
    pub fn from_config(config: &ServiceConfig) -> Result<Self, SettingsError> {
        let device = choose_device(config.device)?;
        let lookup = environment;
        let cache_dtype = Variables::new(&lookup).choice(CACHE_VARIABLE)?;
        let demonstration = variable(DEMONSTRATION_VARIABLE);
        Ok(Self {
            name: config.name.clone(),
            checkpoint: config.checkpoint.clone(),
            installed: config.models_dir.join(&config.name),
            demonstration: demonstration
                .or_else(|| config.demo_checkpoint.clone())
                .unwrap_or_else(default_demonstration),
            device,
            dtype: config.dtype,
            cache_dtype,
            quantization: config.quantization,
            weight_cache: variable(WEIGHT_CACHE_VARIABLE),
        })
    }

    /// The options for loading `source`.
    #[must_use]
    pub fn options(&self, source: &Source) -> LoadOptions {
        let options = source.options(self.device.device, [self.dtype, self.cache_dtype], self.quantization);
        LoadOptions { weight_cache: self.weight_cache.clone(), ..options }
    }

    /// The folder or file to serve. Every call searches the file system, so that the next load uses a checkpoint that was
    /// installed while the service runs.
    ///
    /// # Errors
    /// As [`CheckpointSearch::locate`].
    pub fn location(&self) -> Result<CheckpointLocation, ModelError> {
        let search = CheckpointSearch {
            configured: self.checkpoint.as_deref(),
            installed: &self.installed,
            demonstration: &self.demonstration,
            format: CheckpointFormat::Text,
        };
        search.locate()
    }
}

/// A path from the environment; an empty value counts as not set.
fn variable(name: &str) -> Option<PathBuf> {
    environment(name).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// `checkpoints/smollm2-135m` in the working directory, else in the repository of this build, else the container image's.
fn default_demonstration() -> PathBuf {
    let relative = PathBuf::from("checkpoints/smollm2-135m");
    let beside_build = std::env::current_exe()
        .ok()
        .and_then(|program| Some(program.parent()?.join("../..").join(&relative)));
    [Some(relative), beside_build]
        .into_iter()
        .flatten()
        .find(|folder| CheckpointFormat::Text.is_in(folder))
        .unwrap_or_else(|| PathBuf::from(INSTALLED_DEMONSTRATION))
}
