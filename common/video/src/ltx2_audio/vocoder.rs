//! Spectrograms to waveforms.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};
use tch::{Device, Kind, Tensor};
use videosdgx_tensor::{Checkpoint, CheckpointError, Quantization, TensorError, Weights, check_finite};

use super::bandwidth::BandwidthExtension;
use super::generator::Generator;
use super::vocoder_config::Ltx2VocoderConfig;
use crate::autoencoder::shape_error;

/// `LTX2Vocoder` (24 kHz, LTX-2.0) or `LTX2VocoderWithBWE` (48 kHz, LTX-2.3 and later).
///
/// It computes in f32 whatever the pipeline's type, as the original code does: in bf16 the errors of a hundred successive
/// convolutions add up to audible noise. Its methods compute with libtorch and must run inside
/// [`videosdgx_tensor::catch_libtorch_errors`].
pub struct Ltx2Vocoder {
    config: Ltx2VocoderConfig,
    generator: Generator,
    bandwidth: Option<BandwidthExtension>,
    device: Device,
    resident_bytes: u64,
}

impl Ltx2Vocoder {
    /// Loads a folder with `config.json` and safetensors (`vocoder/` of a checkpoint) on `device`.
    ///
    /// # Errors
    /// [`TensorError::Checkpoint`] naming what is missing, broken or not supported; [`TensorError::OutOfMemory`].
    pub fn load(folder: &Path, device: Device) -> Result<Self, TensorError> {
        let checkpoint = Checkpoint::open(folder)?;
        let fields: Map<String, Value> = checkpoint.config()?;
        let config = Ltx2VocoderConfig::parse(&fields).and_then(|config| config.check().map(|()| config));
        let config = config.map_err(|reason| CheckpointError::invalid(folder.join("config.json"), reason))?;
        let weights = Weights::new(Arc::new(checkpoint), device, Kind::Float, Quantization::None);
        let (generator, bandwidth) = match &config.bandwidth {
            None => (Generator::load(&weights, &config.generator)?, None),
            Some(bandwidth) => (
                Generator::load(&weights.at("vocoder"), &config.generator)?,
                Some(BandwidthExtension::load(&weights, bandwidth, config.bandwidth_ratio())?),
            ),
        };
        Ok(Self { config, generator, bandwidth, device, resident_bytes: weights.resident_bytes() })
    }

    /// The configuration that it was loaded with.
    pub fn config(&self) -> &Ltx2VocoderConfig {
        &self.config
    }

    /// Bytes of its weights.
    pub fn resident_bytes(&self) -> u64 {
        self.resident_bytes
    }

    /// Sampling rate of the waveforms, Hz.
    pub fn sample_rate(&self) -> u32 {
        self.config.sample_rate
    }

    /// A waveform from the logarithm of a mel spectrogram. `mel`: `[1, channels, t, mel bins]` →
    /// `[channels, t · samples per frame]` f32 from -1 to 1 at [`Ltx2Vocoder::sample_rate`].
    ///
    /// # Errors
    /// [`TensorError::Libtorch`] for a different shape, [`TensorError::NotFinite`] for samples with NaN or infinity.
    pub fn synthesize(&self, mel: &Tensor) -> Result<Tensor, TensorError> {
        let size = mel.size();
        let inputs = self.config.generator.in_channels;
        match size.as_slice() {
            &[1, channels, t, bins] if t > 0 && channels * bins == inputs => {}
            _ => {
                let want = format!("[1, channels, t, mel bins] with channels · mel bins = {inputs}");
                return Err(shape_error("a mel spectrogram", &want, &size));
            }
        }
        let mel = mel.to_device(self.device).to_kind(Kind::Float);
        let mut waveform = self.generator.forward(&mel.squeeze_dim(0).transpose(0, 1).flatten(1, 2));
        if let Some(bandwidth) = &self.bandwidth {
            waveform = bandwidth.forward(&waveform);
        }
        let waveform = waveform.transpose(0, 1).contiguous();
        check_finite(&waveform, "the samples of the vocoder")?;
        Ok(waveform)
    }
}
