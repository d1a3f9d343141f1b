//! Networks that several video services share: text encoders, and the autoencoders and encoders of Wan and LTX-2.
//!
//! [`text`] (prompts, tokenizers, UMT5, Gemma 3) serves every model that is conditioned on text; [`wan_vae`] and
//! [`wan_clip`] serve the Wan models and those that use Wan's autoencoder; [`ltx2_vae`] and [`ltx2_audio`] are picture and
//! sound of LTX-2.

mod autoencoder;
pub mod ltx2_audio;
pub mod ltx2_vae;
mod picture_tensor;
pub mod text;
pub mod wan_clip;
pub mod wan_vae;

pub use picture_tensor::picture_tensor;
