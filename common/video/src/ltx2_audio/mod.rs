//! The sound of LTX-2: waveforms to log-mel spectrograms ([`MelSpectrogram`]), spectrograms to latents and back
//! ([`Ltx2AudioVae`]), and spectrograms to waveforms ([`Ltx2Vocoder`]).
//!
//! The transformer's sound tokens are latent frames: 25 a second, each of 8 channels × 16 bins. Encoder and decoder see
//! no later time, so the latents of a beginning are the beginning of the latents. A clip is decoded at once: 20 seconds at
//! the published sizes need less than 1 GiB beside the weights, a fraction of what the picture needs.
//!
//! ```no_run
//! use videosdgx_tensor::{Device, Kind, Tensor, TensorError, catch_libtorch_errors};
//! use videosdgx_video::ltx2_audio::{Ltx2AudioVae, Ltx2Vocoder};
//! use videosdgx_video::wan_vae::VaeParts;
//!
//! # fn main() -> Result<(), TensorError> {
//! let vae = Ltx2AudioVae::load("models/ltx-2/audio_vae".as_ref(), VaeParts::Decoder, Device::Cpu, Kind::BFloat16)?;
//! let vocoder = Ltx2Vocoder::load("models/ltx-2/vocoder".as_ref(), Device::Cpu)?;
//! // Five seconds: the denoised tokens of 121 pictures at 24 a second.
//! let tokens = Tensor::zeros([1, vae.config().latent_frames(121, 24.0), 128], (Kind::Float, Device::Cpu));
//! let waveform = catch_libtorch_errors(|| {
//!     let mel = vae.decode(&vae.unpack(&vae.denormalize(&tokens)))?;
//!     vocoder.synthesize(&mel)
//! })?;
//! assert_eq!(waveform.size(), [2, 501 * 240]);
//! assert_eq!(vocoder.sample_rate(), 24_000);
//! # Ok(()) }
//! ```

mod autoencoder;
mod bandwidth;
mod blocks;
mod config;
mod conv;
mod decoder;
mod encoder;
mod generator;
mod mel;
mod snake;
mod snake_kernel;
mod vocoder;
mod vocoder_config;
mod waveform;

pub use autoencoder::Ltx2AudioVae;
pub use config::Ltx2AudioVaeConfig;
pub use mel::MelSpectrogram;
pub use vocoder::Ltx2Vocoder;
pub use vocoder_config::{
    BandwidthConfig, FinalActivation, GeneratorActivation, GeneratorConfig, Ltx2VocoderConfig,
    SpectrogramConfig,
};
pub use waveform::resampled;
