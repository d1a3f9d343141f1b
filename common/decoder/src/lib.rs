//! Language models on libtorch: the decoder families by configuration, each a [`videosdgx_decoder_api::Decoder`].
//!
//! [`Source`] opens a published checkpoint (a transformers folder or a GGUF file), describes it and estimates its
//! memory; [`TextModel`] is the loaded model, and [`HiddenStates`] a model that is loaded as a text encoder. One
//! transformer implements all families of [`Family`]; their differences are in [`DecoderConfig`], which is read from the
//! checkpoint and checked before anything is allocated.
//!
//! ```no_run
//! use videosdgx_decoder::{LoadOptions, Source};
//! use videosdgx_decoder_api::{Decoder, LogitsRequest, Segment};
//! use videosdgx_tensor::{Device, Kind, Quantization};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let source = Source::open("models/qwen3-0.6b")?;
//! let options = LoadOptions::new(Device::Cpu, Kind::Float, Quantization::None);
//! println!("{} bytes", source.memory(&options).peak());
//! let mut model = source.load(&options)?;
//! model.resize_cache(64)?;
//! println!("context of {} tokens", model.shape().max_context);
//! # Ok(())
//! # }
//! ```

mod attention;
mod batch;
mod config;
mod error;
mod hidden_states;
mod layer;
mod load;
mod memory;
mod mlp;
mod model;
mod moe;
mod names;
mod norm;
mod pictures;
mod positions;
mod rotary;
mod source;
mod stack;
pub mod vision;

pub use config::{
    Activation, Attention, BlockConfig, ConfigError, DecoderConfig, Family, FeedForward, GroupedConfig,
    LatentConfig, Llama3Scaling, QueryProjection, RopeConfig, RopeLayout, RopeScaling, Routing,
    SlidingConfig, SparseConfig,
};
pub use error::LoadError;
pub use hidden_states::HiddenStates;
pub use memory::MemoryEstimate;
pub use model::TextModel;
pub use names::{Layout, expected_tensors};
pub use source::{LoadOptions, Source};
pub use vision::VisionConfig;
