//! Wan 2.1, text and image to video: its transformer, its pipeline and what the engine of
//! [`videosdgx_diffusion`] needs to know of it.

mod description;
mod memory;
mod model;
pub mod pipeline;
pub mod transformer;

pub use model::{Wan21, WanEngine};
