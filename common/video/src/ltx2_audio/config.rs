//! `config.json` of an `AutoencoderKLLTX2Audio`.

use serde::Deserialize;

/// Sizes of the autoencoder of sound. Default of every field: the value of the published checkpoints (LTX-2.0 to 2.5).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Ltx2AudioVaeConfig {
    /// Channels of the finest level; also the number of latents of a time step, `latent_channels · mel_bins / 4`, which
    /// are normalised together.
    pub base_channels: i64,
    /// Channels of sound that are decoded: 2, left and right.
    pub output_channels: i64,
    /// Channels of each level in units of `base_channels`, the finest level first.
    pub ch_mult: Vec<i64>,
    /// Residual blocks a level of the encoder; the decoder has one more.
    pub num_res_blocks: i64,
    /// Resolutions with attention (not supported: no published checkpoint has any).
    pub attn_resolutions: Option<Vec<i64>>,
    /// Channels of sound that are encoded: 2.
    pub in_channels: i64,
    /// Channels of the latents.
    pub latent_channels: i64,
    /// `pixel` is supported.
    pub norm_type: String,
    /// Direction in which convolutions only see what precedes: `height` (time) is supported.
    pub causality_axis: Option<String>,
    /// Attention at the coarsest level (not supported).
    pub mid_block_add_attention: bool,
    /// Sampling rate of encoded sound, Hz.
    pub sample_rate: u32,
    /// Samples from one mel frame to the next.
    pub mel_hop_length: i64,
    /// Frequencies of a mel frame.
    pub mel_bins: Option<i64>,
    /// Whether the encoder gives mean and variance.
    pub double_z: bool,
}

impl Default for Ltx2AudioVaeConfig {
    fn default() -> Self {
        Self {
            base_channels: 128,
            output_channels: 2,
            ch_mult: vec![1, 2, 4],
            num_res_blocks: 2,
            attn_resolutions: None,
            in_channels: 2,
            latent_channels: 8,
            norm_type: "pixel".to_owned(),
            causality_axis: Some("height".to_owned()),
            mid_block_add_attention: false,
            sample_rate: 16_000,
            mel_hop_length: 160,
            mel_bins: Some(64),
            double_z: true,
        }
    }
}

/// Mel frames, and mel bins, per latent.
pub(super) const COMPRESSION: i64 = 4;

impl Ltx2AudioVaeConfig {
    /// Checks that this architecture is supported.
    ///
    /// # Errors
    /// A message naming the field that is not supported or contradicts another.
    pub fn check(&self) -> Result<(), String> {
        if self.norm_type != "pixel" {
            return Err(format!("norm_type {:?} is not supported, only \"pixel\"", self.norm_type));
        }
        if self.causality_axis.as_deref() != Some("height") {
            return Err("causality_axis must be \"height\", others are not supported".to_owned());
        }
        if self.attn_resolutions.as_ref().is_some_and(|list| !list.is_empty()) || self.mid_block_add_attention
        {
            return Err("attn_resolutions and mid_block_add_attention are not supported".to_owned());
        }
        if !self.double_z {
            return Err("double_z must be true".to_owned());
        }
        // Two halvings: the decoder's length and the packed latents assume a factor of 4.
        if self.ch_mult.len() != 3 {
            return Err(format!("ch_mult must have 3 entries, not {}", self.ch_mult.len()));
        }
        for (name, size, largest) in [
            ("base_channels", self.base_channels, 1024),
            ("num_res_blocks", self.num_res_blocks, 16),
            ("latent_channels", self.latent_channels, 1024),
            ("in_channels", self.in_channels, 16),
            ("output_channels", self.output_channels, 16),
            ("mel_hop_length", self.mel_hop_length, 1 << 16),
            ("sample_rate", i64::from(self.sample_rate), 384_000),
            ("mel_bins", self.mel_bins(), 512),
        ] {
            if !(1..=largest).contains(&size) {
                return Err(format!("{name} must be from 1 to {largest}, not {size}"));
            }
        }
        if self.ch_mult.iter().any(|size| !(1..=64).contains(size)) {
            return Err("entries of ch_mult must be from 1 to 64".to_owned());
        }
        if self.mel_bins() % COMPRESSION != 0 {
            return Err(format!("mel_bins must be a multiple of 4, not {}", self.mel_bins()));
        }
        if self.base_channels != self.packed_width() {
            return Err(format!(
                "base_channels must be latent_channels · mel_bins / 4 = {}, not {}",
                self.packed_width(),
                self.base_channels
            ));
        }
        Ok(())
    }

    /// Frequencies of a mel frame; 0, which is not valid, if the file says `null`.
    pub fn mel_bins(&self) -> i64 {
        self.mel_bins.unwrap_or(0)
    }

    /// Frequencies of a latent frame: `mel_bins / 4`.
    pub fn latent_bins(&self) -> i64 {
        self.mel_bins() / COMPRESSION
    }

    /// Width of a packed latent frame, as the transformer sees it: `latent_channels · mel_bins / 4`.
    pub fn packed_width(&self) -> i64 {
        self.latent_channels * self.latent_bins()
    }

    /// Latent frames per second: 25.
    pub fn latents_per_second(&self) -> f64 {
        f64::from(self.sample_rate) / self.mel_hop_length as f64 / COMPRESSION as f64
    }

    /// Latent frames of the sound of `frames` pictures at `fps` a second. Ties are rounded to even, as diffusers does.
    pub fn latent_frames(&self, frames: i64, fps: f64) -> i64 {
        (frames as f64 / fps * self.latents_per_second()).round_ties_even() as i64
    }

    /// Mel frames that `latent_frames` decode to: `4n - 3`, since nothing precedes the first.
    pub fn mel_frames(&self, latent_frames: i64) -> i64 {
        (COMPRESSION * latent_frames - (COMPRESSION - 1)).max(1)
    }

    /// Channels of level `level`, the finest first.
    pub(super) fn channels(&self, level: usize) -> i64 {
        self.base_channels * self.ch_mult[level]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_follows_from_the_clip() {
        let config = Ltx2AudioVaeConfig::default();
        assert_eq!(config.check(), Ok(()));
        assert_eq!(config.packed_width(), 128);
        for (frames, fps, latents) in
            [(121, 24.0, 126), (17, 8.0, 53), (9, 50.0, 4), (27, 50.0, 14), (481, 24.0, 501)]
        {
            assert_eq!(config.latent_frames(frames, fps), latents, "{frames} at {fps}");
        }
        assert_eq!([1, 2, 126].map(|latents| config.mel_frames(latents)), [1, 5, 501]);
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let reason = |change: &str| {
            let config: Ltx2AudioVaeConfig = serde_json::from_str(change).expect("JSON");
            config.check().expect_err(change)
        };
        for (change, word) in [
            (r#"{"norm_type": "group"}"#, "norm_type"),
            (r#"{"causality_axis": "width"}"#, "causality_axis"),
            (r#"{"causality_axis": null}"#, "causality_axis"),
            (r#"{"attn_resolutions": [16]}"#, "attn_resolutions"),
            (r#"{"mid_block_add_attention": true}"#, "mid_block_add_attention"),
            (r#"{"ch_mult": [1, 2]}"#, "ch_mult"),
            (r#"{"ch_mult": [1, 0, 4]}"#, "ch_mult"),
            (r#"{"mel_bins": null}"#, "mel_bins"),
            (r#"{"mel_bins": 62}"#, "mel_bins"),
            (r#"{"latent_channels": 4}"#, "base_channels"),
            (r#"{"double_z": false}"#, "double_z"),
            (r#"{"sample_rate": 0}"#, "sample_rate"),
        ] {
            assert!(reason(change).contains(word), "{change}: {}", reason(change));
        }
    }
}
