//! Networks that several video services share: text encoders, and the autoencoder and image encoder of Wan.
//!
//! [`text`] (prompts, tokenizers, UMT5, Gemma 3) serves every model that is conditioned on text; [`wan_vae`] and [`wan_clip`]
//! serve the Wan models and those that use Wan's autoencoder.

mod picture_tensor;
pub mod text;
pub mod wan_clip;
pub mod wan_vae;

pub use picture_tensor::picture_tensor;
