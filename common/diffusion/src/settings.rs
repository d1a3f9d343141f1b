//! Which checkpoint is served, where and in which form.

use std::path::PathBuf;

use tch::{Device, Kind};
use videosdgx_service::ServiceConfig;
use videosdgx_tensor::{Quantization, TensorError, resolve_device, resolve_kind};

/// Where the demonstration checkpoint lies in a container.
const INSTALLED_DEMONSTRATION: &str = "/usr/share/videosdgx/demo-shapes";

/// The service's configuration as this model needs it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `VIDEOSDGX_CHECKPOINT`: a folder that must be used; nothing else is tried when it is set.
    pub checkpoint: Option<PathBuf>,
    /// `VIDEOSDGX_MODELS_DIR`/wan21, used when it is there.
    pub installed: PathBuf,
    /// The demonstration checkpoint, used when neither of the others is.
    pub demonstration: PathBuf,
    /// Where tensors live.
    pub device: Device,
    /// What they are made of.
    pub kind: Kind,
    /// What the transformer's linears are made of.
    pub quantization: Quantization,
}

impl Settings {
    /// Takes what the environment says and resolves `auto`.
    ///
    /// # Errors
    /// When the device is not there.
    pub fn from_config(config: &ServiceConfig) -> Result<Self, TensorError> {
        let device = resolve_device(config.device)?;
        let kind = resolve_kind(config.dtype, device);
        Ok(Self {
            checkpoint: config.checkpoint.clone(),
            installed: config.models_dir.join(&config.name),
            demonstration: config.demo_checkpoint.clone().unwrap_or_else(default_demonstration),
            device,
            kind,
            quantization: config.quantization,
        })
    }

    /// The folder to serve: looked for at each call, so that a checkpoint that arrives while the service runs is used
    /// from its next load on.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        match &self.checkpoint {
            Some(folder) => folder.clone(),
            None if self.installed.join("model_index.json").is_file() => self.installed.clone(),
            None => self.demonstration.clone(),
        }
    }
}

/// `checkpoints/demo-shapes` below the working directory, else beside the folder of the build, else the container's.
fn default_demonstration() -> PathBuf {
    let relative = PathBuf::from("checkpoints/demo-shapes");
    let beside_build = std::env::current_exe()
        .ok()
        .and_then(|program| Some(program.parent()?.join("../..").join(&relative)));
    [Some(relative), beside_build]
        .into_iter()
        .flatten()
        .find(|folder| folder.join("model_index.json").is_file())
        .unwrap_or_else(|| PathBuf::from(INSTALLED_DEMONSTRATION))
}
