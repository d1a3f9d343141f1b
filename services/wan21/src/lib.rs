//! Wan 2.1, text and image to video: its transformer, its pipeline, and its description for the engine of
//! [`videosdgx_diffusion`].

mod description;
mod memory;
mod model;
pub mod pipeline;
pub mod transformer;

pub use model::{Wan21, WanEngine};
