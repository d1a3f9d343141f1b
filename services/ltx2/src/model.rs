//! LTX-2 as the engine of [`videosdgx_diffusion`] sees it.

use videosdgx_api::ModelDescription;
use videosdgx_diffusion::{
    CheckpointFolder, CheckpointLayout, DiffusionEngine, DiffusionModel, LoraNames, MemoryEstimate, Settings,
};
use videosdgx_tensor::CheckpointError;

use crate::configuration::Ltx2Configuration;
use crate::description::describe;
use crate::lora::LORA_NAMES;
use crate::memory::estimate;
use crate::pipeline::Ltx2Pipeline;

/// The engine of the service `ltx2`.
pub type Ltx2Engine = DiffusionEngine<Ltx2>;

/// The model family LTX-2.
#[derive(Debug, Clone, Copy)]
pub struct Ltx2;

impl DiffusionModel for Ltx2 {
    type Pipeline = Ltx2Pipeline;

    const NAME: &'static str = "ltx2";
    const LAYOUT: CheckpointLayout = CheckpointLayout {
        family: "LTX-2",
        classes: &[
            ("LTX2Pipeline", COMPONENTS),
            ("LTX2ImageToVideoPipeline", COMPONENTS),
            ("LTX2ConditionPipeline", COMPONENTS),
        ],
        files: &["tokenizer/tokenizer.json", "scheduler/scheduler_config.json"],
    };
    const LORA_NAMES: LoraNames = LORA_NAMES;

    fn describe(folder: &CheckpointFolder, settings: &Settings) -> Result<ModelDescription, CheckpointError> {
        describe(Self::NAME, folder, &Ltx2Configuration::read(&folder.path)?, settings)
    }

    fn memory(folder: &CheckpointFolder, settings: &Settings) -> Result<MemoryEstimate, CheckpointError> {
        let configuration = Ltx2Configuration::read(&folder.path)?;
        let model = describe(Self::NAME, folder, &configuration, settings)?;
        estimate(folder, &configuration, settings, model.default_resolution, model.default_num_frames)
            .map_err(|reason| CheckpointError::invalid(folder.path.join("vae/config.json"), reason))
    }
}

/// Folders of weights that every checkpoint has.
const COMPONENTS: &[&str] = &["transformer", "text_encoder", "connectors", "vae", "audio_vae", "vocoder"];
