//! The part of a text-to-video service that does not depend on the model's networks, shared by all diffusion services.
//!
//! A video service implements [`DiffusionModel`] (which checkpoints it reads, how it describes them, how much memory
//! each stage needs) and [`Pipeline`] (encode, denoise, decode). [`DiffusionEngine`] makes a
//! [`videosdgx_service::Engine`] of it: it finds the checkpoint, decides what stays in memory ([`Residency`]), resumes
//! from latents on the disk ([`LatentFile`]), writes the MP4 file (with the sound of [`Pipeline::decode_sound`]) and maps
//! errors. [`schedulers`], noise, guidance and [`denoise`] are the arithmetic that does not depend on the model. LoRAs
//! change the pipeline's linear layers while it denoises ([`WithLoras`]).

mod checkpoint;
mod demonstration;
mod denoise;
mod engine;
mod error;
mod generation;
mod guidance;
mod latent_file;
mod lora;
mod memory;
mod model;
mod noise;
mod output;
mod pipeline;
mod progress;
mod residency;
pub mod schedulers;
mod settings;

pub use checkpoint::{CheckpointFolder, CheckpointLayout};
pub use demonstration::{Demonstration, DemonstrationDefaults, Vocabulary};
pub use denoise::denoise;
pub use engine::{DiffusionEngine, LoadedPipeline, main};
pub use error::{CallbackError, PipelineError};
pub use generation::{Abilities, Generation, Guidances};
pub use guidance::{GuidedContext, guided};
pub use latent_file::{LatentFile, LatentShape, Latents};
pub use lora::{CheckpointLayers, ChosenLora, LoraCatalog, LoraError, LoraFault, LoraNames, WithLoras};
pub use memory::{MemoryEstimate, StageMemory};
pub use model::DiffusionModel;
pub use noise::{NoiseGenerator, normal};
pub use pipeline::{Pipeline, PipelineOptions, generate};
pub use progress::{Progress, Summary};
pub use residency::{Component, Residency};
pub use settings::Settings;
