//! Wan 2.1, text and image to video: its transformer, its pipelines and its [`videosdgx_service::Engine`].

mod description;
mod engine;
mod folder;
mod memory;
pub mod pipeline;
mod settings;
pub mod transformer;

pub use engine::{NAME, WanEngine};
pub use settings::Settings;
