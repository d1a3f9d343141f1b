//! Wan 2.1 as the engine of [`videosdgx_diffusion`] sees it.

use videosdgx_api::ModelDescription;
use videosdgx_diffusion::{
    CheckpointFolder, CheckpointLayout, DiffusionEngine, DiffusionModel, LoraNames, MemoryEstimate, Settings,
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
    const LORA_NAMES: LoraNames = LoraNames {
        component: "transformer",
        original: &[
            ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
            ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
            ("condition_embedder.time_proj", "time_projection.1"),
            ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
            ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
            ("condition_embedder.image_embedder.ff.net.0.proj", "img_emb.proj.1"),
            ("condition_embedder.image_embedder.ff.net.2", "img_emb.proj.3"),
            ("attn1.to_q", "self_attn.q"),
            ("attn1.to_k", "self_attn.k"),
            ("attn1.to_v", "self_attn.v"),
            ("attn1.to_out.0", "self_attn.o"),
            ("attn2.to_q", "cross_attn.q"),
            ("attn2.to_k", "cross_attn.k"),
            ("attn2.to_v", "cross_attn.v"),
            ("attn2.to_out.0", "cross_attn.o"),
            ("attn2.add_k_proj", "cross_attn.k_img"),
            ("attn2.add_v_proj", "cross_attn.v_img"),
            ("ffn.net.0.proj", "ffn.0"),
            ("ffn.net.2", "ffn.2"),
            ("proj_out", "head.head"),
        ],
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
