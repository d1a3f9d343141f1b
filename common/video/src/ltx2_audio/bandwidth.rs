//! Bandwidth extension: a waveform of few frequencies is interpolated to a higher sampling rate, and a second network adds
//! the frequencies that are missing.

use std::f64::consts::PI;

use tch::{Device, Kind, Tensor};
use videosdgx_tensor::{TensorError, Weights};

use super::generator::Generator;
use super::vocoder_config::BandwidthConfig;

/// Smallest magnitude, so that silence has a logarithm.
const FLOOR: f64 = 1e-5;

pub(super) struct BandwidthExtension {
    spectrogram: CausalSpectrogram,
    generator: Generator,
    interpolation: Interpolation,
}

impl BandwidthExtension {
    pub(super) fn load(weights: &Weights, config: &BandwidthConfig, ratio: i64) -> Result<Self, TensorError> {
        let spectrogram = &config.spectrogram;
        Ok(Self {
            spectrogram: CausalSpectrogram::load(
                &weights.at("mel_stft"),
                [spectrogram.filter_length, spectrogram.hop_length, spectrogram.num_mel_channels],
            )?,
            generator: Generator::load(&weights.at("bwe_generator"), &config.generator)?,
            interpolation: Interpolation::new(ratio, weights.device())?,
        })
    }

    /// `[t, channels]` → `[ratio · t, channels]`, from -1 to 1.
    pub(super) fn forward(&self, waveform: &Tensor) -> Tensor {
        let length = waveform.size()[0];
        let hop = self.spectrogram.hop;
        // Whole frames of the spectrogram.
        let rows = waveform.transpose(0, 1).constant_pad_nd([0, (hop - length % hop) % hop]).contiguous();
        let mut output = self.generator.forward(&self.spectrogram.forward(&rows));
        output += self.interpolation.forward(&rows).transpose(0, 1);
        output.clamp_(-1.0, 1.0).narrow(0, 0, self.interpolation.ratio * length)
    }
}

/// A log-mel spectrogram in which a frame sees no later sample. Window, Fourier transform and mel bands are tensors of the
/// checkpoint, as rounded in training.
struct CausalSpectrogram {
    /// Real, then imaginary parts: `[length, 2 · (length / 2 + 1)]`.
    basis: Tensor,
    /// `[length / 2 + 1, bands]`.
    bands: Tensor,
    length: i64,
    hop: i64,
}

impl CausalSpectrogram {
    /// Loads `stft_fn.forward_basis` and `mel_basis`; `stft_fn.inverse_basis` is not used.
    fn load(weights: &Weights, [length, hop, bands]: [i64; 3]) -> Result<Self, TensorError> {
        let frequencies = length / 2 + 1;
        let shape = [2 * frequencies, 1, length];
        weights.require("stft_fn.inverse_basis", &shape)?;
        let basis = weights.tensor("stft_fn.forward_basis", &shape)?.f_squeeze_dim(1)?;
        let bands = weights.tensor("mel_basis", &[bands, frequencies])?;
        Ok(Self { basis: basis.f_transpose(0, 1)?, bands: bands.f_transpose(0, 1)?, length, hop })
    }

    /// `[channels, t]`, t a multiple of the hop → `[t / hop, channels · bands]`.
    fn forward(&self, waveform: &Tensor) -> Tensor {
        let frames = waveform.constant_pad_nd([self.length - self.hop, 0]).unfold(1, self.length, self.hop);
        let parts = frames.matmul(&self.basis).chunk(2, -1);
        let magnitudes = parts.iter().map(Tensor::square).reduce(|a, b| a + b).unwrap_or_default().sqrt();
        let mel = magnitudes.matmul(&self.bands).clamp_min(FLOOR).log();
        mel.transpose(0, 1).flatten(1, 2)
    }
}

/// Multiplies the sampling rate by an integer, with a sinc filter in a Hann window (6 zero crossings, cutoff at 0.99).
struct Interpolation {
    /// `[1, 1, 2 · WIDTH · ratio + 1]`.
    filter: Tensor,
    ratio: i64,
}

impl Interpolation {
    /// Samples on each side.
    const WIDTH: i64 = 7;

    fn new(ratio: i64, device: Device) -> Result<Self, TensorError> {
        const CROSSINGS: f64 = 6.0;
        const ROLLOFF: f64 = 0.99;
        let tap = |at: i64| {
            let time = (at as f64 / ratio as f64 - Self::WIDTH as f64) * ROLLOFF;
            let window = (time.clamp(-CROSSINGS, CROSSINGS) * PI / CROSSINGS / 2.0).cos().powi(2);
            let sinc = if time == 0.0 { 1.0 } else { (time * PI).sin() / (time * PI) };
            // The upsampled waveform has zeros between samples, so its filter's gain is the ratio: it cancels 1 / ratio.
            (sinc * window * ROLLOFF) as f32
        };
        let taps: Vec<f32> = (0..=2 * Self::WIDTH * ratio).map(tap).collect();
        let filter = Tensor::f_from_slice(&taps)?.f_view([1, 1, -1])?.f_to_kind(Kind::Float)?;
        Ok(Self { filter: filter.f_to_device(device)?, ratio })
    }

    /// `[channels, t]` → `[channels, ratio · t]`; the first and the last sample are repeated beyond the ends.
    fn forward(&self, waveform: &Tensor) -> Tensor {
        let length = waveform.size()[1];
        let padded = waveform.unsqueeze(1).replication_pad1d([Self::WIDTH, Self::WIDTH]);
        let none = None::<&Tensor>;
        let y = padded.conv_transpose1d(&self.filter, none, [self.ratio], [0], [0], 1, [1]);
        y.squeeze_dim(1).narrow(1, 2 * Self::WIDTH * self.ratio, self.ratio * length)
    }
}
