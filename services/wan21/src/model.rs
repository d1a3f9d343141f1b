//! Wan 2.1 as the engine of [`videosdgx_diffusion`] sees it.

use videosdgx_api::ModelDescription;
use videosdgx_diffusion::{
    CheckpointFolder, CheckpointLayout, DiffusionEngine, DiffusionModel, MemoryEstimate, Settings,
};
use videosdgx_tensor::CheckpointError;

use crate::description::describe;
use crate::memory::{WanSizes, estimate};
use crate::pipeline::WanPipeline;

/// The engine of the service `wan21`.
pub type WanEngine = DiffusionEngine<Wan21>;

/// The model family Wan 2.1.
#[derive(Debug, Clone, Copy)]
pub struct Wan21;

impl DiffusionModel for Wan21 {
    type Pipeline = WanPipeline;

    const NAME: &'static str = "wan21";
    const LAYOUT: CheckpointLayout = CheckpointLayout {
        family: "Wan 2.1",
        classes: &[
            ("WanPipeline", &["transformer", "text_encoder", "vae"]),
            ("WanImageToVideoPipeline", &["transformer", "text_encoder", "vae", "image_encoder"]),
        ],
        files: &["tokenizer/tokenizer.json", "scheduler/scheduler_config.json"],
    };

    fn describe(folder: &CheckpointFolder, settings: &Settings) -> Result<ModelDescription, CheckpointError> {
        describe(Self::NAME, folder, &WanSizes::read(folder)?, settings)
    }

    fn memory(folder: &CheckpointFolder, settings: &Settings) -> Result<MemoryEstimate, CheckpointError> {
        let sizes = WanSizes::read(folder)?;
        let model = describe(Self::NAME, folder, &sizes, settings)?;
        Ok(estimate(folder, &sizes, settings, model.default_resolution, model.default_num_frames))
    }
}
