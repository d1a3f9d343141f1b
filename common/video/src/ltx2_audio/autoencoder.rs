//! The autoencoder of sound as pipelines use it.

use std::path::Path;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};
use videosdgx_tensor::{Checkpoint, CheckpointError, Quantization, TensorError, Weights, check_finite};

use super::config::Ltx2AudioVaeConfig;
use super::decoder::Decoder;
use super::encoder::Encoder;
use super::mel::MelSpectrogram;
use super::waveform::{resampled, with_channels};
use crate::autoencoder::{VaeParts, encoder_not_loaded, shape_error};

/// `AutoencoderKLLTX2Audio`: log-mel spectrograms to latents of a quarter of the frames and bins, and back.
///
/// Its methods compute with libtorch and must run inside [`videosdgx_tensor::catch_libtorch_errors`].
pub struct Ltx2AudioVae {
    config: Ltx2AudioVaeConfig,
    encoder: Option<Encoder>,
    decoder: Decoder,
    /// Statistics of packed latents, `[latent channels · latent bins]` f32.
    mean: Tensor,
    std: Tensor,
    kind: Kind,
    device: Device,
    resident_bytes: u64,
}

impl Ltx2AudioVae {
    /// Loads a folder with `config.json` and safetensors (`audio_vae/` of a checkpoint), computing in `kind` on `device`.
    /// Text to video does not need the encoder.
    ///
    /// # Errors
    /// [`TensorError::Checkpoint`] naming what is missing, broken or not supported; [`TensorError::OutOfMemory`].
    pub fn load(folder: &Path, parts: VaeParts, device: Device, kind: Kind) -> Result<Self, TensorError> {
        let checkpoint = Checkpoint::open(folder)?;
        let config: Ltx2AudioVaeConfig = checkpoint.config()?;
        config.check().map_err(|reason| CheckpointError::invalid(folder.join("config.json"), reason))?;
        let weights = Weights::new(Arc::new(checkpoint), device, kind, Quantization::None);
        let encoder = match parts {
            VaeParts::Decoder => None,
            VaeParts::Both => Some(Encoder::load(&weights, &config)?),
        };
        let decoder = Decoder::load(&weights, &config)?;
        let statistics = |name| weights.tensor_as(name, &[config.packed_width()], Kind::Float);
        Ok(Self {
            mean: statistics("latents_mean")?,
            std: statistics("latents_std")?,
            resident_bytes: weights.resident_bytes(),
            config,
            encoder,
            decoder,
            kind,
            device,
        })
    }

    /// The configuration that it was loaded with.
    pub fn config(&self) -> &Ltx2AudioVaeConfig {
        &self.config
    }

    /// Bytes of its weights.
    pub fn resident_bytes(&self) -> u64 {
        self.resident_bytes
    }

    /// Latents as the transformer's tokens, one for each latent frame: `[1, z, n, bins]` → `[1, n, z · bins]`.
    pub fn pack(&self, latents: &Tensor) -> Tensor {
        latents.transpose(1, 2).flatten(2, 3)
    }

    /// The reverse of [`Ltx2AudioVae::pack`].
    pub fn unpack(&self, tokens: &Tensor) -> Tensor {
        let size = tokens.size();
        let bins = self.config.latent_bins();
        tokens.view([size[0], size[1], size[2] / bins, bins]).transpose(1, 2)
    }

    /// The tokens that the transformer works with: `(tokens - mean) / std`. `[1, n, z · bins]` → the same, f32.
    pub fn normalize(&self, tokens: &Tensor) -> Tensor {
        (tokens.to_kind(Kind::Float) - &self.mean) / &self.std
    }

    /// The reverse of [`Ltx2AudioVae::normalize`].
    pub fn denormalize(&self, tokens: &Tensor) -> Tensor {
        tokens.to_kind(Kind::Float) * &self.std + &self.mean
    }

    /// Decodes latents. `latents`: `[1, z, n, mel bins / 4]`, not normalised → the logarithm of the mel spectrogram,
    /// `[1, channels, 4n - 3, mel bins]` f32.
    ///
    /// # Errors
    /// [`TensorError::Libtorch`] for latents of a different shape, [`TensorError::NotFinite`] for a spectrogram with NaN
    /// or infinity.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor, TensorError> {
        let size = latents.size();
        match size.as_slice() {
            &[1, z, n, bins]
                if z == self.config.latent_channels && n > 0 && bins == self.config.latent_bins() => {}
            _ => return Err(shape_error("latents of sound", "[1, z, n, mel bins / 4]", &size)),
        }
        let mel = outwards(&self.decoder.forward(&self.inwards(latents)));
        check_finite(&mel, "the mel spectrograms after decoding")?;
        Ok(mel)
    }

    /// Encodes the logarithm of a mel spectrogram ([`MelSpectrogram`]). `mel`: `[1, channels, t, mel bins]` → the mean of
    /// its latents, `[1, z, ⌈t / 4⌉, mel bins / 4]` f32, not normalised.
    ///
    /// # Errors
    /// [`TensorError::Libtorch`] for a different shape, or when the encoder is not loaded.
    pub fn encode(&self, mel: &Tensor) -> Result<Tensor, TensorError> {
        let encoder = self.encoder.as_ref().ok_or_else(encoder_not_loaded)?;
        let size = mel.size();
        match size.as_slice() {
            &[1, channels, t, bins]
                if channels == self.config.in_channels && t > 0 && bins == self.config.mel_bins() => {}
            _ => return Err(shape_error("a mel spectrogram", "[1, channels, t, mel bins]", &size)),
        }
        Ok(outwards(&encoder.forward(&self.inwards(mel))))
    }

    /// Encodes sound as a condition of `latent_frames` latent frames. `channels`: samples from -1 to 1 of each channel, at
    /// `sample_rate` → `[1, z, latent_frames, mel bins / 4]` f32, not normalised. One channel becomes both sides, more than
    /// two are mixed; silence follows sound that is too short, and what is too long is cut off.
    ///
    /// # Errors
    /// [`TensorError::Libtorch`] for no channels, channels of different lengths, or a sampling rate outside 1 Hz to 768 kHz;
    /// as [`Ltx2AudioVae::encode`].
    pub fn encode_sound(
        &self,
        channels: &[Vec<f32>],
        sample_rate: u32,
        latent_frames: i64,
    ) -> Result<Tensor, TensorError> {
        let count = usize::try_from(self.config.in_channels).unwrap_or(0);
        let channels = with_channels(channels, count).map_err(TensorError::Libtorch)?;
        let spectrogram = MelSpectrogram::new(&self.config, self.device)?;
        // The last mel frame is centred on sample (4n - 4) · hop, and sees half a window after it.
        let centre = (self.config.mel_frames(latent_frames) - 1) * self.config.mel_hop_length;
        let least = usize::try_from(centre.max(spectrogram.least_samples())).unwrap_or(0);
        let most = least + usize::try_from(spectrogram.least_samples()).unwrap_or(0);
        let rows = channels.iter().map(|samples| {
            let mut samples =
                resampled(samples, sample_rate, self.config.sample_rate).map_err(TensorError::Libtorch)?;
            samples.resize(samples.len().clamp(least, most), 0.0);
            Ok(Tensor::from_slice(&samples))
        });
        let waveform = Tensor::stack(&rows.collect::<Result<Vec<_>, TensorError>>()?, 0);
        let latents = self.encode(&spectrogram.forward(&waveform)?)?;
        Ok(latents.narrow(2, 0, latent_frames))
    }

    /// `[1, c, t, m]` → contiguous `[1, t, m, c]` to compute with.
    fn inwards(&self, x: &Tensor) -> Tensor {
        x.to_device(self.device).to_kind(self.kind).permute([0, 2, 3, 1]).contiguous()
    }
}

/// `[1, t, m, c]` → contiguous `[1, c, t, m]` f32.
fn outwards(x: &Tensor) -> Tensor {
    x.permute([0, 3, 1, 2]).to_kind(Kind::Float).contiguous()
}
