//! Language models on libtorch: the decoder families by configuration, each a [`videosdgx_decoder_api::Decoder`].
//!
//! [`Source`] opens a published checkpoint (a transformers folder or a GGUF file), says what it is and what it will take;
//! [`TextModel`] is one in memory. One transformer serves all six families of [`Family`]: what differs is in
//! [`DecoderConfig`], read from the checkpoint and checked before anything is allocated.

mod attention;
mod batch;
mod config;
mod error;
mod layer;
mod load;
mod memory;
mod mlp;
mod model;
mod moe;
mod names;
mod pictures;
mod positions;
mod rotary;
mod source;
pub mod vision;

pub use config::{
    Attention, ConfigError, DecoderConfig, Family, FeedForward, Grouped, Latent, Llama3Scaling,
    QueryProjection, RopeConfig, RopeLayout, RopeScaling, Routing, Sparse,
};
pub use error::LoadError;
pub use memory::MemoryNeed;
pub use model::TextModel;
pub use names::{Layout, expected_tensors};
pub use source::{LoadOptions, Source};
pub use vision::VisionConfig;
