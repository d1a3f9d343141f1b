//! The configuration files of a checkpoint, and the checks and shapes that follow from them.

use std::path::Path;

use serde::Deserialize;
use videosdgx_api::Support;
use videosdgx_diffusion::schedulers::SchedulerConfig;
use videosdgx_diffusion::{Abilities, Generation, PipelineError};
use videosdgx_tensor::{Checkpoint, CheckpointError, read_json};
use videosdgx_video::wan_vae::WanVaeConfig;

use crate::description::FRAME_RULE;
use crate::transformer::TransformerConfig;

pub(super) struct WanConfiguration {
    pub(super) transformer: TransformerConfig,
    pub(super) vae: WanVaeConfig,
    pub(super) scheduler: SchedulerConfig,
}

#[derive(Deserialize)]
struct ModelIndex {
    #[serde(default)]
    boundary_ratio: Option<f64>,
    #[serde(default)]
    expand_timesteps: bool,
}

impl WanConfiguration {
    /// Reads and checks the configuration; opens (only) the headers of transformer and VAE.
    pub(super) fn read(folder: &Path) -> Result<Self, CheckpointError> {
        let index_path = folder.join("model_index.json");
        let index: ModelIndex = read_json(&index_path)?;
        if index.boundary_ratio.is_some() || index.expand_timesteps {
            return Err(CheckpointError::invalid(
                index_path,
                "this is a Wan 2.2 checkpoint; only Wan 2.1 is supported",
            ));
        }
        let transformer_path = folder.join("transformer/config.json");
        let transformer: TransformerConfig = read_json(&transformer_path)?;
        transformer.check().map_err(|reason| CheckpointError::invalid(transformer_path, reason))?;
        let vae_path = folder.join("vae/config.json");
        let vae: WanVaeConfig = read_json(&vae_path)?;
        vae.check().map_err(|reason| CheckpointError::invalid(vae_path, reason))?;
        let scheduler = SchedulerConfig::read(folder)?;
        scheduler.require_constant_shift().map_err(|reason| {
            CheckpointError::invalid(folder.join("scheduler/scheduler_config.json"), reason)
        })?;
        for part in ["transformer", "vae"] {
            Checkpoint::open(folder.join(part))?;
        }
        Ok(Self { transformer, vae, scheduler })
    }

    /// Whether the transformer attends to an embedding of the first frame.
    pub(super) fn attends_to_image(&self) -> bool {
        self.transformer.image_dim.is_some()
    }

    /// `[1, z, frames, rows, columns]` of a request's latents.
    pub(super) fn latent_shape(&self, generation: &Generation) -> [i64; 5] {
        let factor = self.vae.spatial_factor();
        let frames = self.vae.latent_frames(i64::from(generation.frames));
        let (rows, columns) = (i64::from(generation.height) / factor, i64::from(generation.width) / factor);
        [1, self.vae.z_dim, frames, rows, columns]
    }

    /// Checks a request.
    pub(super) fn check(&self, generation: &Generation) -> Result<(), PipelineError> {
        let [_, patch_rows, patch_columns] = self.transformer.patch_size;
        let size_step = self.vae.spatial_factor() * patch_rows.max(patch_columns);
        let image = if self.transformer.takes_image() { Support::Required } else { Support::Unsupported };
        generation.check(size_step, FRAME_RULE, &Abilities { image, ..Abilities::default() })?;
        let shape = self.latent_shape(generation);
        let sides = [
            ("num_frames", shape[2]),
            ("height", shape[3] / patch_rows),
            ("width", shape[4] / patch_columns),
        ];
        match sides.iter().find(|(_, patches)| *patches > self.transformer.rope_max_seq_len) {
            Some((field, _)) => {
                Err(PipelineError::Input { field, reason: "is too large for this model".to_owned() })
            }
            None => Ok(()),
        }
    }
}
