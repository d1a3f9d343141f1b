//! LTX-2, video with sound: its text connectors, its transformer, its pipeline, and its description for the engine of
//! [`videosdgx_diffusion`].

mod attention;
mod configuration;
pub mod connectors;
mod description;
mod feed_forward;
mod lora;
mod memory;
mod model;
mod names;
pub mod pipeline;
mod rotary;
pub mod transformer;

pub use lora::LORA_NAMES;
pub use model::{Ltx2, Ltx2Engine};
pub use rotary::RopeType;
