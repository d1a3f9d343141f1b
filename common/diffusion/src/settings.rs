//! Which checkpoint a service serves, on which device and in which type.

use std::path::PathBuf;

use tch::Kind;
use videosdgx_model::{CheckpointFormat, CheckpointLocation, CheckpointSearch, ModelError};
use videosdgx_service::ServiceConfig;
use videosdgx_tensor::{ChosenDevice, Quantization, TensorError, choose_device, resolve_kind};

/// Folder of the demonstration checkpoints in a container.
const INSTALLED_DEMONSTRATIONS: &str = "/opt/videosdgx/checkpoints";

/// The part of a service's configuration that decides what is loaded.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `VIDEOSDGX_CHECKPOINT`: when set, the only folder that is used.
    pub checkpoint: Option<PathBuf>,
    /// `VIDEOSDGX_MODELS_DIR/<service>`, used when anything is there.
    pub installed: PathBuf,
    /// The demonstration checkpoint, used when nothing is at `installed`.
    pub demonstration: PathBuf,
    /// `VIDEOSDGX_LORAS_DIR`: the folder of LoRAs, which need not exist.
    pub loras: PathBuf,
    /// Device of all tensors.
    pub device: ChosenDevice,
    /// Compute type.
    pub kind: Kind,
    /// Weight format of the transformer's linears.
    pub quantization: Quantization,
}

impl Settings {
    /// From the configuration; resolves `auto`.
    ///
    /// # Errors
    /// [`TensorError::Device`] when the configured device is not available.
    pub fn from_config(config: &ServiceConfig) -> Result<Self, TensorError> {
        let device = choose_device(config.device)?;
        let kind = resolve_kind(config.dtype, device.device);
        Ok(Self {
            checkpoint: config.checkpoint.clone(),
            installed: config.models_dir.join(&config.name),
            demonstration: config
                .demo_checkpoint
                .clone()
                .unwrap_or_else(|| default_demonstration(&config.name)),
            loras: config.loras_dir.clone(),
            device,
            kind,
            quantization: config.quantization,
        })
    }

    /// The folder to serve. It is searched at each call, so that a checkpoint that is installed while the service runs is
    /// used from the next load on.
    ///
    /// # Errors
    /// As [`CheckpointSearch::locate`].
    pub fn location(&self) -> Result<CheckpointLocation, ModelError> {
        let search = CheckpointSearch {
            configured: self.checkpoint.as_deref(),
            installed: &self.installed,
            demonstration: &self.demonstration,
            format: CheckpointFormat::Diffusers,
        };
        search.locate()
    }

    /// The compute type as `/info` shows it: `bf16`, `f16` or `f32`.
    #[must_use]
    pub fn dtype_name(&self) -> &'static str {
        match self.kind {
            Kind::BFloat16 => "bf16",
            Kind::Half => "f16",
            _ => "f32",
        }
    }
}

/// The service's demonstration checkpoint: in `checkpoints` below the working directory, else beside the build's folder,
/// else where the container has it.
fn default_demonstration(service: &str) -> PathBuf {
    let name = videosdgx_manifest::service(service)
        .and_then(|service| service.demo_checkpoint.as_deref())
        .unwrap_or(service);
    let relative = PathBuf::from("checkpoints").join(name);
    let beside_build = std::env::current_exe()
        .ok()
        .and_then(|program| Some(program.parent()?.join("../..").join(&relative)));
    [Some(relative), beside_build]
        .into_iter()
        .flatten()
        .find(|folder| folder.join("model_index.json").is_file())
        .unwrap_or_else(|| PathBuf::from(INSTALLED_DEMONSTRATIONS).join(name))
}
