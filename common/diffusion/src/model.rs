//! The interface between a model family and the engine.

use videosdgx_api::ModelDescription;
use videosdgx_tensor::CheckpointError;

use crate::{CheckpointFolder, CheckpointLayout, LoraNames, MemoryEstimate, Pipeline, Settings};

/// A model family that [`crate::DiffusionEngine`] serves. Only the pipeline reads weights.
pub trait DiffusionModel: Send + Sync + 'static {
    /// Its pipeline.
    type Pipeline: Pipeline;

    /// Name of the service in `services/manifest.toml`, for example `wan21`.
    const NAME: &'static str;
    /// The checkpoint folders that it reads.
    const LAYOUT: CheckpointLayout;
    /// What LoRAs call its layers.
    const LORA_NAMES: LoraNames;

    /// Defaults and limits of a checkpoint.
    ///
    /// # Errors
    /// Names the configuration file that is missing or broken.
    fn describe(folder: &CheckpointFolder, settings: &Settings) -> Result<ModelDescription, CheckpointError>;

    /// Memory of each stage for jobs of the checkpoint's default size.
    ///
    /// # Errors
    /// Names the configuration file that is missing or broken.
    fn memory(folder: &CheckpointFolder, settings: &Settings) -> Result<MemoryEstimate, CheckpointError>;
}
