//! LoRAs (Hu et al. 2021, arXiv 2106.09685): files that change a model's linear layers, named by a request.
//!
//! A [`LoraCatalog`] lists the files of a folder and checks them against a checkpoint, reading headers only. Their keys
//! may be in diffusers' (PEFT's), the original program's, ComfyUI's or kohya's layout: [`LoraNames`] is all that a model
//! says about it. [`WithLoras`] is a pipeline that computes the changes beside its weights, in every weight format, while
//! it denoises: the weights themselves are never modified, so a job without LoRAs makes the bytes of a fresh process.

mod adapted;
mod cache;
mod catalog;
mod error;
mod fit;
mod keys;
mod names;
mod scaling;
mod tensors;

pub use adapted::WithLoras;
pub use catalog::{ChosenLora, LoraCatalog};
pub use error::{LoraError, LoraFault};
pub use names::{CheckpointLayers, LoraNames};
