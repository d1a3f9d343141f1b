//! A pipeline that denoises with LoRAs.

use std::path::Path;

use videosdgx_sound::Sound;
use videosdgx_tensor::AdaptableLayers;

use super::ChosenLora;
use super::cache::LoraCache;
use crate::{
    DiffusionModel, Generation, LatentShape, Latents, Pipeline, PipelineError, PipelineOptions, Progress,
    Summary,
};

/// The pipeline of `M`, which denoises with the LoRAs of [`WithLoras::choose`]. Their tensors stay in memory between generations, up
/// to a budget, and are freed with the pipeline.
pub struct WithLoras<M: DiffusionModel> {
    pipeline: M::Pipeline,
    chosen: Vec<ChosenLora>,
    cache: LoraCache,
}

impl<M: DiffusionModel> WithLoras<M> {
    /// Keeps up to `budget` bytes of LoRAs that a generation does not use; after loading, none are kept.
    #[must_use]
    pub fn keeping(mut self, budget: u64) -> Self {
        self.cache.set_budget(budget);
        self
    }

    /// Sets the LoRAs of the generations from now on.
    pub fn choose(&mut self, loras: Vec<ChosenLora>) {
        self.chosen = loras;
    }

    /// Bytes of the LoRAs in memory.
    pub fn lora_bytes(&self) -> u64 {
        self.cache.bytes()
    }
}

/// Removes every change when it is dropped, also after an error.
struct Applied(AdaptableLayers);

impl Drop for Applied {
    fn drop(&mut self) {
        self.0.clear();
    }
}

impl<M: DiffusionModel> Pipeline for WithLoras<M> {
    type Conditions = <M::Pipeline as Pipeline>::Conditions;

    fn load(folder: &Path, options: PipelineOptions) -> Result<Self, PipelineError> {
        let pipeline = M::Pipeline::load(folder, options)?;
        Ok(Self { pipeline, chosen: Vec::new(), cache: LoraCache::new(0, options.kind) })
    }

    fn resident_bytes(&self) -> u64 {
        self.pipeline.resident_bytes() + self.cache.bytes()
    }

    fn transformer_bytes(&self) -> u64 {
        self.pipeline.transformer_bytes()
    }

    fn adaptable_layers(&mut self) -> Result<AdaptableLayers, PipelineError> {
        self.pipeline.adaptable_layers()
    }

    fn check(&self, generation: &Generation) -> Result<(), PipelineError> {
        self.pipeline.check(generation)
    }

    fn latent_shapes(&self, generation: &Generation) -> Vec<LatentShape> {
        self.pipeline.latent_shapes(generation)
    }

    fn encode(
        &mut self,
        generation: &Generation,
        summary: &mut Summary,
    ) -> Result<Self::Conditions, PipelineError> {
        self.pipeline.encode(generation, summary)
    }

    fn denoise<E: From<PipelineError>>(
        &mut self,
        generation: &Generation,
        conditions: &Self::Conditions,
        on_progress: impl FnMut(Progress) -> Result<(), E>,
    ) -> Result<Latents, E> {
        if self.chosen.is_empty() {
            return self.pipeline.denoise(generation, conditions, on_progress);
        }
        let layers = Applied(self.pipeline.adaptable_layers()?);
        self.cache.apply(&self.chosen, &layers.0, &M::LORA_NAMES)?;
        self.pipeline.denoise(generation, conditions, on_progress)
    }

    fn decode<E: From<PipelineError>>(
        &mut self,
        latents: &Latents,
        on_progress: impl FnMut(Progress) -> Result<(), E>,
        on_frame: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.pipeline.decode(latents, on_progress, on_frame)
    }

    fn decode_sound(&mut self, latents: &Latents) -> Result<Option<Sound>, PipelineError> {
        self.pipeline.decode_sound(latents)
    }
}
