//! Which checkpoint is served, where and in which form.

use std::path::{Path, PathBuf};

use videosdgx_decoder::{LoadOptions, Source};
use videosdgx_shell::{ConfigError, ServiceConfig, Variables, environment};
use videosdgx_tensor::{Device, DtypeChoice, Quantization, TensorError, resolve_device};

/// Where the demonstration checkpoint lies in a container.
const INSTALLED_DEMONSTRATION: &str = "/usr/share/videosdgx/smollm2-135m";
/// The demonstration checkpoint of text services, whatever `VIDEOSDGX_DEMO_CHECKPOINT` is for the others.
const DEMONSTRATION_VARIABLE: &str = "VIDEOSDGX_DEMO_TEXT_CHECKPOINT";

/// Folder for a cache of the weights that are quantised while loading; default: no cache.
const COPIES_VARIABLE: &str = "VIDEOSDGX_QUANTIZED_DIR";

/// What the KV cache holds: `auto`, `bf16`, `f16` or `f32`.
const CACHE_VARIABLE: &str = "VIDEOSDGX_KV_CACHE_DTYPE";

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The device is not there.
    #[error(transparent)]
    Device(#[from] TensorError),
    /// A variable has a bad value.
    #[error(transparent)]
    Variable(#[from] ConfigError),
}

/// The service's configuration as a language model needs it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The service's name.
    pub name: String,
    /// `VIDEOSDGX_CHECKPOINT`: a folder or GGUF file that must be used; nothing else is tried when it is set.
    pub checkpoint: Option<PathBuf>,
    /// `VIDEOSDGX_MODELS_DIR`/`name`, used when a checkpoint is in it.
    pub installed: PathBuf,
    /// The demonstration checkpoint, used when neither of the others is.
    pub demonstration: PathBuf,
    /// Where it lives.
    pub device: Device,
    /// What it computes in.
    pub dtype: DtypeChoice,
    /// What its KV cache holds.
    pub cache_dtype: DtypeChoice,
    /// What its linears are made of.
    pub quantization: Quantization,
    /// Folder for a cache of the weights that are quantised while loading.
    pub weight_cache: Option<PathBuf>,
}

impl Settings {
    /// Takes what the environment says and resolves `auto`.
    ///
    /// # Errors
    /// When the device is not there, or a variable has a bad value.
    pub fn from_config(config: &ServiceConfig) -> Result<Self, SettingsError> {
        let device = resolve_device(config.device)?;
        let lookup = environment;
        let cache_dtype = Variables::new(&lookup).choice(CACHE_VARIABLE)?;
        let told = variable(DEMONSTRATION_VARIABLE);
        Ok(Self {
            name: config.name.clone(),
            checkpoint: config.checkpoint.clone(),
            installed: config.models_dir.join(&config.name),
            demonstration: told
                .or_else(|| config.demo_checkpoint.clone())
                .unwrap_or_else(default_demonstration),
            device,
            dtype: config.dtype,
            cache_dtype,
            quantization: config.quantization,
            weight_cache: variable(COPIES_VARIABLE),
        })
    }

    /// How `source` is loaded.
    #[must_use]
    pub fn options(&self, source: &Source) -> LoadOptions {
        let options = source.options(self.device, [self.dtype, self.cache_dtype], self.quantization);
        LoadOptions { weight_cache: self.weight_cache.clone(), ..options }
    }

    /// The folder or file to serve and whether it is the demonstration: looked for at each call, so that a checkpoint that
    /// arrives while the service runs is used from its next load on.
    #[must_use]
    pub fn location(&self) -> (PathBuf, bool) {
        match &self.checkpoint {
            Some(path) => (path.clone(), same(path, &self.demonstration)),
            None if holds_checkpoint(&self.installed) => (self.installed.clone(), false),
            None => (self.demonstration.clone(), true),
        }
    }
}

/// A path of the environment; empty counts as not set.
fn variable(name: &str) -> Option<PathBuf> {
    environment(name).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Whether a folder has a configuration or a GGUF file.
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

/// `checkpoints/smollm2-135m` below the working directory, else beside the folder of the build, else the container's.
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
    fn what_was_told_comes_first_then_what_is_installed_then_the_demonstration() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let place = |name: &str| folder.path().join(name);
        for name in ["told", "installed", "demonstration"] {
            std::fs::create_dir(place(name)).expect("creates");
        }
        let mut settings = Settings {
            name: "qwen3-4b".into(),
            checkpoint: None,
            installed: place("installed"),
            demonstration: place("demonstration"),
            device: Device::Cpu,
            dtype: DtypeChoice::Auto,
            cache_dtype: DtypeChoice::Auto,
            quantization: Quantization::None,
            weight_cache: None,
        };
        assert_eq!(settings.location(), (place("demonstration"), true), "an empty folder is no checkpoint");
        std::fs::write(place("installed").join("model.gguf"), b"").expect("writes");
        assert_eq!(settings.location(), (place("installed"), false));
        settings.checkpoint = Some(place("told"));
        assert_eq!(settings.location(), (place("told"), false), "even when nothing is in it");
        settings.checkpoint = Some(place("demonstration"));
        assert!(settings.location().1);
    }
}
