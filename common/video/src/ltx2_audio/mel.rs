//! Waveforms to the log-mel spectrograms that the autoencoder was trained on (`AudioProcessor` of the original code, in
//! torchaudio's terms `MelSpectrogram(power=1, norm="slaney", mel_scale="slaney", center=True, pad_mode="reflect")`).

use tch::{Device, Kind, Tensor};
use videosdgx_tensor::TensorError;

use super::config::Ltx2AudioVaeConfig;
use crate::autoencoder::shape_error;

/// Samples of a window, and of the Fourier transform. Not in `config.json`: all published checkpoints have this value.
const WINDOW: i64 = 1024;
/// Smallest magnitude, so that silence has a logarithm.
const FLOOR: f64 = 1e-5;

/// Magnitudes of the Fourier transform in triangular bands of the mel scale, as natural logarithms.
pub struct MelSpectrogram {
    /// `[WINDOW]`.
    window: Tensor,
    /// `[WINDOW / 2 + 1, mel bins]`.
    bands: Tensor,
    hop: i64,
}

impl MelSpectrogram {
    /// The spectrogram for sound at `config.sample_rate`, computed in f32 on `device`.
    ///
    /// # Errors
    /// [`TensorError::OutOfMemory`], [`TensorError::Libtorch`].
    pub fn new(config: &Ltx2AudioVaeConfig, device: Device) -> Result<Self, TensorError> {
        let bins = usize::try_from(config.mel_bins()).unwrap_or(0);
        let bands = slaney_bands(config.sample_rate, bins);
        Ok(Self {
            window: Tensor::f_hann_window(WINDOW, (Kind::Float, device))?,
            bands: Tensor::f_from_slice(&bands)?.f_view([-1, bins as i64])?.f_to_device(device)?,
            hop: config.mel_hop_length,
        })
    }

    /// The shortest waveform of which a spectrogram exists, in samples: the reflection at its ends needs them.
    pub fn least_samples(&self) -> i64 {
        WINDOW / 2 + 1
    }

    /// `waveform`: `[channels, samples]` f32 → `[1, channels, 1 + samples / hop, mel bins]` f32.
    ///
    /// # Errors
    /// [`TensorError::Libtorch`] for a different shape or fewer samples than [`MelSpectrogram::least_samples`].
    pub fn forward(&self, waveform: &Tensor) -> Result<Tensor, TensorError> {
        let size = waveform.size();
        if size.len() != 2 || size[1] < self.least_samples() {
            return Err(shape_error("a waveform", "[channels, 513 samples or more]", &size));
        }
        let waveform = waveform.to_device(self.window.device()).to_kind(Kind::Float);
        let frames = waveform.reflection_pad1d([WINDOW / 2, WINDOW / 2]).unfold(1, WINDOW, self.hop);
        let magnitudes = (frames * &self.window).fft_rfft(None, -1, "backward").abs();
        Ok(magnitudes.matmul(&self.bands).clamp_min(FLOOR).log().unsqueeze(0))
    }
}

/// Triangles with equal distances on Slaney's mel scale (linear up to 1 kHz, then logarithmic) from 0 to half of
/// `sample_rate`, each of area 1 (Slaney, Auditory Toolbox, 1998): `[WINDOW / 2 + 1, bins]`, row by row.
fn slaney_bands(sample_rate: u32, bins: usize) -> Vec<f32> {
    const HZ_PER_MEL: f64 = 200.0 / 3.0;
    const LOG_START_HZ: f64 = 1000.0;
    // 27 mels span a factor of 6.4.
    let step = 6.4f64.ln() / 27.0;
    let log_start = LOG_START_HZ / HZ_PER_MEL;
    let to_mel = |hz: f64| {
        if hz < LOG_START_HZ { hz / HZ_PER_MEL } else { log_start + (hz / LOG_START_HZ).ln() / step }
    };
    let to_hz = |mel: f64| {
        if mel < log_start { mel * HZ_PER_MEL } else { LOG_START_HZ * ((mel - log_start) * step).exp() }
    };
    let highest = f64::from(sample_rate / 2);
    let corners: Vec<f64> =
        (0..bins + 2).map(|at| to_hz(to_mel(highest) * at as f64 / (bins + 1) as f64)).collect();
    let rows = (0..=WINDOW / 2).map(|bin| highest * bin as f64 / (WINDOW / 2) as f64);
    let row = |hz: f64| {
        let triangle = move |corner: &[f64]| {
            let rising = (hz - corner[0]) / (corner[1] - corner[0]);
            let falling = (corner[2] - hz) / (corner[2] - corner[1]);
            (rising.min(falling).max(0.0) * 2.0 / (corner[2] - corner[0])) as f32
        };
        corners.windows(3).map(triangle).collect::<Vec<_>>()
    };
    rows.flat_map(row).collect()
}
