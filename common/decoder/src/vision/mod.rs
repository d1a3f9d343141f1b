//! The vision tower of Qwen3-VL: patches of pictures → features at the width of the text layers.
//!
//! Reference: `Qwen3VLVisionModel` of transformers.

mod block;
mod config;
mod grid;
mod merger;
mod rotary;
mod tower;

pub use config::VisionConfig;
pub use tower::{Features, VisionTower};

#[cfg(test)]
mod tests;
