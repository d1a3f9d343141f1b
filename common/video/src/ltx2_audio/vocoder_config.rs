//! `config.json` of an `LTX2Vocoder` or `LTX2VocoderWithBWE`.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::config::Ltx2AudioVaeConfig;

/// Sizes of a network from a mel spectrogram to a waveform. Defaults: LTX-2.0, whose file lacks some fields.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct GeneratorConfig {
    /// Channels of sound times mel bins.
    pub in_channels: i64,
    /// Channels after the first convolution; each upsampling halves them.
    pub hidden_channels: i64,
    /// Channels of sound.
    pub out_channels: i64,
    /// Kernel of each upsampling.
    pub upsample_kernel_sizes: Vec<i64>,
    /// Factor of each upsampling.
    pub upsample_factors: Vec<i64>,
    /// Kernels of the residual blocks that follow each upsampling.
    pub resnet_kernel_sizes: Vec<i64>,
    /// Dilations of the layers of each residual block.
    pub resnet_dilations: Vec<Vec<i64>>,
    /// Activation of the residual blocks.
    #[serde(default)]
    pub act_fn: GeneratorActivation,
    /// Slope of `leaky_relu`.
    #[serde(default = "default_slope")]
    pub leaky_relu_negative_slope: f64,
    /// Whether the activations of residual blocks are computed at twice the rate.
    #[serde(default)]
    pub antialias: bool,
    /// That rate: 2 is supported.
    #[serde(default = "default_ratio")]
    pub antialias_ratio: i64,
    /// Taps of its filters: 12 are supported.
    #[serde(default = "default_kernel")]
    pub antialias_kernel_size: i64,
    /// Keeps the waveform from -1 to 1.
    #[serde(default = "default_final")]
    pub final_act_fn: Option<FinalActivation>,
    /// Whether the last convolution has a bias.
    #[serde(default = "default_bias")]
    pub final_bias: bool,
}

/// Activation between the convolutions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GeneratorActivation {
    /// Leaky ReLU.
    #[default]
    LeakyRelu,
    /// `x + sin²(αx) / α` with a learned α for each channel (Ziyin et al. 2020).
    Snake,
    /// `x + sin²(αx) / β` (BigVGAN, Lee et al. 2023).
    #[serde(rename = "snakebeta")]
    SnakeBeta,
}

/// What limits a waveform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinalActivation {
    /// Hyperbolic tangent.
    Tanh,
    /// Values outside -1 to 1 become -1 or 1.
    Clamp,
}

fn default_slope() -> f64 {
    0.1
}
fn default_ratio() -> i64 {
    2
}
fn default_kernel() -> i64 {
    12
}
fn default_final() -> Option<FinalActivation> {
    Some(FinalActivation::Tanh)
}
fn default_bias() -> bool {
    true
}

impl GeneratorConfig {
    /// Samples per mel frame.
    pub fn samples_per_frame(&self) -> i64 {
        self.upsample_factors.iter().product()
    }

    fn check(&self, prefix: &str) -> Result<(), String> {
        let levels = self.upsample_factors.len();
        let fail = |field: &str, reason: String| Err(format!("{prefix}{field} {reason}"));
        for (field, size, largest) in [
            ("in_channels", self.in_channels, 4096),
            ("hidden_channels", self.hidden_channels, 8192),
            ("out_channels", self.out_channels, 16),
        ] {
            if !(1..=largest).contains(&size) {
                return fail(field, format!("must be from 1 to {largest}, not {size}"));
            }
        }
        if !(1..=12).contains(&levels) || self.upsample_kernel_sizes.len() != levels {
            let count = self.upsample_kernel_sizes.len();
            return fail(
                "upsample_factors",
                format!(
                    "has {levels} entries, upsample_kernel_sizes {count}: \
                both must have the same number, 1 to 12"
                ),
            );
        }
        for (&factor, &kernel) in self.upsample_factors.iter().zip(&self.upsample_kernel_sizes) {
            // Any other difference would not multiply the length by the factor.
            if !(1..=64).contains(&factor) || !(factor..=256).contains(&kernel) || (kernel - factor) % 2 != 0
            {
                return fail(
                    "upsample_kernel_sizes",
                    format!(
                        "has {kernel} for a factor of {factor}: factors \
                    must be from 1 to 64, kernels as large or larger by an even number, at most 256"
                    ),
                );
            }
        }
        if self.hidden_channels % (1 << levels) != 0 {
            return fail(
                "hidden_channels",
                format!("must be a multiple of 2^{levels}, not {}", self.hidden_channels),
            );
        }
        if self.resnet_kernel_sizes.is_empty()
            || self.resnet_kernel_sizes.len() != self.resnet_dilations.len()
        {
            return fail(
                "resnet_kernel_sizes",
                "must have as many entries as resnet_dilations, at least 1".to_owned(),
            );
        }
        if self.resnet_kernel_sizes.iter().any(|size| !(1..=63).contains(size) || size % 2 == 0) {
            return fail("resnet_kernel_sizes", "must be odd, from 1 to 63".to_owned());
        }
        if self.resnet_dilations.iter().flatten().any(|size| !(1..=64).contains(size)) {
            return fail("resnet_dilations", "must be from 1 to 64".to_owned());
        }
        if self.act_fn == GeneratorActivation::LeakyRelu && self.antialias {
            return fail("antialias", "is not supported with leaky_relu".to_owned());
        }
        if (self.antialias_ratio, self.antialias_kernel_size) != (2, 12) {
            return fail("antialias_ratio and antialias_kernel_size", "must be 2 and 12".to_owned());
        }
        Ok(())
    }
}

/// The second network of a vocoder with bandwidth extension, and the spectrogram that it sees.
#[derive(Debug, Clone, PartialEq)]
pub struct BandwidthConfig {
    /// The network (`bwe_…` in the file).
    pub generator: GeneratorConfig,
    /// The spectrogram of the first network's waveform.
    pub spectrogram: SpectrogramConfig,
}

/// A causal log-mel spectrogram and the rates before and after the extension.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct SpectrogramConfig {
    /// Samples of the Fourier transform.
    pub filter_length: i64,
    /// Samples from one frame to the next.
    pub hop_length: i64,
    /// Samples of the window.
    pub window_length: i64,
    /// Bands.
    pub num_mel_channels: i64,
    /// Sampling rate of the first network, Hz.
    pub input_sampling_rate: u32,
    /// Sampling rate of the result, Hz.
    pub output_sampling_rate: u32,
}

/// A vocoder, with bandwidth extension or without.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Map<String, Value>")]
pub struct Ltx2VocoderConfig {
    /// The network from the autoencoder's spectrogram to a waveform.
    pub generator: GeneratorConfig,
    /// The extension of the waveform to more frequencies (LTX-2.3 and later).
    pub bandwidth: Option<BandwidthConfig>,
    /// Sampling rate of the result, Hz.
    pub sample_rate: u32,
}

#[derive(Deserialize)]
struct PlainRate {
    #[serde(default = "plain_rate")]
    output_sampling_rate: u32,
}

fn plain_rate() -> u32 {
    24_000
}

impl TryFrom<Map<String, Value>> for Ltx2VocoderConfig {
    type Error = String;

    fn try_from(fields: Map<String, Value>) -> Result<Self, String> {
        Self::parse(&fields)
    }
}

impl Ltx2VocoderConfig {
    /// Reads the fields of `config.json`. Files with `bwe_…` fields are of vocoders with bandwidth extension.
    ///
    /// # Errors
    /// A message naming the field that is missing or has another type.
    pub fn parse(fields: &Map<String, Value>) -> Result<Self, String> {
        let generator = read(fields)?;
        let second: Map<String, Value> = fields
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix("bwe_")?.to_owned(), value.clone())))
            .collect();
        if second.is_empty() {
            let sample_rate = read::<PlainRate>(fields)?.output_sampling_rate;
            return Ok(Self { generator, bandwidth: None, sample_rate });
        }
        let second = read(&second).map_err(|reason| format!("bwe_…: {reason}"))?;
        let spectrogram: SpectrogramConfig = read(fields)?;
        let sample_rate = spectrogram.output_sampling_rate;
        Ok(Self {
            generator,
            bandwidth: Some(BandwidthConfig { generator: second, spectrogram }),
            sample_rate,
        })
    }

    /// Checks that this architecture is supported.
    ///
    /// # Errors
    /// A message naming the field that is not supported or contradicts another.
    pub fn check(&self) -> Result<(), String> {
        self.generator.check("")?;
        if !(1000..=384_000).contains(&self.sample_rate) {
            return Err(format!("output_sampling_rate must be 1000 to 384000 Hz, not {}", self.sample_rate));
        }
        let Some(BandwidthConfig { generator, spectrogram }) = &self.bandwidth else { return Ok(()) };
        generator.check("bwe_")?;
        let SpectrogramConfig { filter_length, hop_length, window_length, num_mel_channels, .. } =
            *spectrogram;
        if !(2..=1 << 14).contains(&filter_length) || filter_length % 2 != 0 {
            return Err(format!("filter_length must be even, from 2 to 16384, not {filter_length}"));
        }
        if window_length != filter_length {
            return Err(format!(
                "window_length must be filter_length ({filter_length}), not {window_length}"
            ));
        }
        if !(1..=filter_length).contains(&hop_length) {
            return Err(format!("hop_length must be from 1 to filter_length, not {hop_length}"));
        }
        if generator.in_channels != self.generator.out_channels * num_mel_channels {
            return Err(format!(
                "bwe_in_channels must be out_channels · num_mel_channels = {}, not {}",
                self.generator.out_channels * num_mel_channels,
                generator.in_channels
            ));
        }
        if generator.out_channels != self.generator.out_channels {
            return Err("bwe_out_channels must be out_channels".to_owned());
        }
        let ratio = self.bandwidth_ratio();
        if ratio < 1 || i64::from(spectrogram.input_sampling_rate) * ratio != i64::from(self.sample_rate) {
            return Err(format!(
                "output_sampling_rate must be a multiple of input_sampling_rate ({}), not {}",
                spectrogram.input_sampling_rate, self.sample_rate
            ));
        }
        if generator.samples_per_frame() != hop_length * ratio {
            return Err(format!(
                "the product of bwe_upsample_factors must be {}, not {}",
                hop_length * ratio,
                generator.samples_per_frame()
            ));
        }
        Ok(())
    }

    /// Checks that it takes the spectrograms of `vae`, second for second.
    ///
    /// # Errors
    /// A message naming the field that differs.
    pub fn check_with(&self, vae: &Ltx2AudioVaeConfig) -> Result<(), String> {
        let inputs = vae.output_channels * vae.mel_bins();
        if self.generator.in_channels != inputs {
            return Err(format!(
                "in_channels of the vocoder is {}, the autoencoder of sound gives {inputs}: \
                output_channels · mel_bins",
                self.generator.in_channels
            ));
        }
        // samples a frame = rate / (frames a second).
        if self.samples_per_frame() * i64::from(vae.sample_rate)
            != i64::from(self.sample_rate) * vae.mel_hop_length
        {
            return Err(format!(
                "the vocoder makes {} samples of a mel frame, which at {} Hz is not \
                mel_hop_length / sample_rate = {} / {} s",
                self.samples_per_frame(),
                self.sample_rate,
                vae.mel_hop_length,
                vae.sample_rate
            ));
        }
        Ok(())
    }

    /// Samples of the result per mel frame.
    pub fn samples_per_frame(&self) -> i64 {
        self.generator.samples_per_frame() * self.bandwidth_ratio()
    }

    /// Samples after the bandwidth extension for each before; 1 without.
    pub(super) fn bandwidth_ratio(&self) -> i64 {
        let rate = self.bandwidth.as_ref().map(|bandwidth| bandwidth.spectrogram.input_sampling_rate);
        rate.map_or(1, |rate| i64::from(self.sample_rate / rate.max(1)))
    }
}

fn read<T: DeserializeOwned>(fields: &Map<String, Value>) -> Result<T, String> {
    serde_path_to_error::deserialize(Value::Object(fields.clone())).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The published file of LTX-2.0, which lacks later fields, and that of LTX-2.3.
    fn published(bandwidth: bool) -> Map<String, Value> {
        let dilations = json!([[1, 3, 5], [1, 3, 5], [1, 3, 5]]);
        let mut file = json!({
            "in_channels": 128, "hidden_channels": 1024, "out_channels": 2, "upsample_kernel_sizes": [16, 15, 8, 4, 4],
            "upsample_factors": [6, 5, 2, 2, 2], "resnet_kernel_sizes": [3, 7, 11], "resnet_dilations": dilations,
            "leaky_relu_negative_slope": 0.1, "output_sampling_rate": 24000
        });
        if bandwidth {
            file = json!({
                "in_channels": 128, "hidden_channels": 1536, "out_channels": 2, "upsample_kernel_sizes": [11, 4, 4, 4, 4, 4],
                "upsample_factors": [5, 2, 2, 2, 2, 2], "resnet_kernel_sizes": [3, 7, 11], "resnet_dilations": dilations,
                "act_fn": "snakebeta", "antialias": true, "final_act_fn": null, "final_bias": false, "bwe_in_channels": 128,
                "bwe_hidden_channels": 512, "bwe_out_channels": 2, "bwe_upsample_kernel_sizes": [12, 11, 4, 4, 4],
                "bwe_upsample_factors": [6, 5, 2, 2, 2], "bwe_resnet_kernel_sizes": [3, 7, 11], "bwe_resnet_dilations": dilations,
                "bwe_act_fn": "snakebeta", "bwe_antialias": true, "bwe_final_act_fn": null, "bwe_final_bias": false,
                "filter_length": 512, "hop_length": 80, "window_length": 512, "num_mel_channels": 64,
                "input_sampling_rate": 16000, "output_sampling_rate": 48000
            });
        }
        let Value::Object(fields) = file else { unreachable!("an object") };
        fields
    }

    fn checked(fields: &Map<String, Value>) -> Result<Ltx2VocoderConfig, String> {
        Ltx2VocoderConfig::parse(fields).and_then(|config| config.check().map(|()| config))
    }

    #[test]
    fn published_files_are_read() {
        let plain = checked(&published(false)).expect("is supported");
        assert_eq!((plain.sample_rate, plain.samples_per_frame()), (24_000, 240));
        assert_eq!(plain.generator.final_act_fn, Some(FinalActivation::Tanh));
        assert_eq!(plain.generator.act_fn, GeneratorActivation::LeakyRelu);
        assert!(plain.generator.final_bias && plain.bandwidth.is_none());
        let wide = checked(&published(true)).expect("is supported");
        assert_eq!((wide.sample_rate, wide.samples_per_frame()), (48_000, 480));
        assert_eq!(wide.generator.final_act_fn, None);
        assert!(wide.bandwidth.is_some_and(|bandwidth| bandwidth.generator.samples_per_frame() == 240));
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for (bandwidth, field, value, word) in [
            (false, "hidden_channels", json!(1000), "hidden_channels must be a multiple of 2^5"),
            (false, "upsample_factors", json!([6, 5, 2, 2]), "upsample_kernel_sizes 5"),
            (false, "upsample_kernel_sizes", json!([15, 15, 8, 4, 4]), "has 15 for a factor of 6"),
            (false, "upsample_kernel_sizes", json!([4, 15, 8, 4, 4]), "has 4 for a factor of 6"),
            (false, "resnet_kernel_sizes", json!([3, 7]), "resnet_kernel_sizes"),
            (false, "resnet_kernel_sizes", json!([3, 7, 10]), "odd"),
            (false, "resnet_dilations", json!([[1], [0], [1]]), "resnet_dilations"),
            (false, "act_fn", json!("relu"), "relu"),
            (false, "antialias", json!(true), "antialias"),
            (false, "antialias_ratio", json!(4), "antialias_ratio"),
            (false, "final_act_fn", json!("sigmoid"), "sigmoid"),
            (false, "output_sampling_rate", json!(0), "output_sampling_rate"),
            (false, "in_channels", Value::Null, "in_channels: invalid type"),
            (true, "bwe_hidden_channels", json!(100), "bwe_hidden_channels"),
            (true, "bwe_in_channels", json!(64), "bwe_in_channels"),
            (true, "bwe_out_channels", json!(1), "bwe_out_channels"),
            (true, "bwe_upsample_factors", json!([6, 5, 2, 2, 4]), "bwe_upsample_factors must be 240"),
            (true, "output_sampling_rate", json!(44_100), "input_sampling_rate"),
            (true, "window_length", json!(400), "window_length"),
            (true, "filter_length", json!(511), "filter_length"),
            (true, "hop_length", json!(0), "hop_length"),
        ] {
            let mut fields = published(bandwidth);
            fields.insert(field.to_owned(), value.clone());
            let reason = checked(&fields).expect_err(field);
            assert!(reason.contains(word), "{field} {value}: {reason}");
        }
        let mut fields = published(true);
        fields.remove("bwe_hidden_channels");
        assert!(checked(&fields).expect_err("incomplete").contains("bwe_…: missing field `hidden_channels`"));
    }

    #[test]
    fn it_must_fit_the_autoencoder() {
        let vae = Ltx2AudioVaeConfig::default();
        for bandwidth in [false, true] {
            let vocoder = checked(&published(bandwidth)).expect("is supported");
            assert_eq!(vocoder.check_with(&vae), Ok(()));
            let fewer = Ltx2AudioVaeConfig { mel_bins: Some(32), ..vae.clone() };
            assert!(vocoder.check_with(&fewer).expect_err("64 inputs").contains("in_channels"));
            let slower = Ltx2AudioVaeConfig { mel_hop_length: 320, ..vae.clone() };
            assert!(vocoder.check_with(&slower).expect_err("half the time").contains("mel_hop_length"));
        }
    }
}
