//! Which checkpoint is served, on which device and in which number format.

use std::path::{Path, PathBuf};

use videosdgx_decoder::{LoadOptions, Source};
use videosdgx_shell::{ConfigError, ServiceConfig, Variables, environment};
use videosdgx_tensor::{Device, DtypeChoice, Quantization, TensorError, resolve_device};

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
    /// `VIDEOSDGX_MODELS_DIR`/`name`, used if it contains a checkpoint and `checkpoint` is not set.
    pub installed: PathBuf,
    /// The demonstration checkpoint, used if there is no other one.
    pub demonstration: PathBuf,
    /// Where the model is computed.
    pub device: Device,
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
        let device = resolve_device(config.device)?;
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
        let options = source.options(self.device, [self.dtype, self.cache_dtype], self.quantization);
        LoadOptions { weight_cache: self.weight_cache.clone(), ..options }
    }

    /// The folder or file to serve, and whether it is the demonstration checkpoint. Every call checks the file system, so that the
    /// next load uses a checkpoint that was installed while the service runs.
    #[must_use]
    pub fn location(&self) -> (PathBuf, bool) {
        match &self.checkpoint {
            Some(path) => (path.clone(), same(path, &self.demonstration)),
            None if holds_checkpoint(&self.installed) => (self.installed.clone(), false),
            None => (self.demonstration.clone(), true),
        }
    }
}

/// A path from the environment; an empty value counts as not set.
fn variable(name: &str) -> Option<PathBuf> {
    environment(name).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Whether a folder contains `config.json` or a GGUF file.
fn holds_checkpoint(folder: &Path) -> bool {
    if folder.join("config.json").is_file() {
        return true;
    }
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files
        .map(|file| file.path())
        .any(|file| file.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf")))
}

fn same(left: &Path, right: &Path) -> bool {
    match (left.canonicalize(), right.canonicalize()) {
        (Ok(left), Ok(right)) => left == right || left.parent() == Some(&right),
        _ => false,
    }
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
        .find(|folder| holds_checkpoint(folder))
        .unwrap_or_else(|| PathBuf::from(INSTALLED_DEMONSTRATION))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configured_checkpoint_precedes_the_installed_one_and_the_demonstration() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = |name: &str| folder.path().join(name);
        for name in ["configured", "installed", "demonstration"] {
            std::fs::create_dir(path(name)).expect("creates");
        }
        let mut settings = Settings {
            name: "qwen3-4b".into(),
            checkpoint: None,
            installed: path("installed"),
            demonstration: path("demonstration"),
            device: Device::Cpu,
            dtype: DtypeChoice::Auto,
            cache_dtype: DtypeChoice::Auto,
            quantization: Quantization::None,
            weight_cache: None,
        };
        assert_eq!(settings.location(), (path("demonstration"), true), "an empty folder is not a checkpoint");
        std::fs::write(path("installed").join("model.gguf"), b"").expect("writes");
        assert_eq!(settings.location(), (path("installed"), false));
        settings.checkpoint = Some(path("configured"));
        assert_eq!(settings.location(), (path("configured"), false), "even if it is empty");
        settings.checkpoint = Some(path("demonstration"));
        assert!(settings.location().1);
    }
}
