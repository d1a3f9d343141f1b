//! `config.json` of an `AutoencoderKLWan`.

use serde::Deserialize;

/// Sizes of the autoencoder and statistics of its latents. Default of every field: Wan 2.1's value.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct WanVaeConfig {
    /// Channels of the encoder's first level.
    pub base_dim: i64,
    /// Channels of the decoder's last level; default: `base_dim`.
    pub decoder_base_dim: Option<i64>,
    /// Channels of the latents.
    pub z_dim: i64,
    /// Channels of each level in units of `base_dim`, the finest level first.
    pub dim_mult: Vec<i64>,
    /// Residual blocks a level of the encoder; the decoder has one more.
    pub num_res_blocks: i64,
    /// Whether the step from a level to the next also halves the frame rate.
    #[serde(rename = "temperal_downsample")]
    pub temporal_downsample: Vec<bool>,
    /// Mean of each latent channel over videos: `[z_dim]`.
    pub latents_mean: Vec<f64>,
    /// Standard deviation of each latent channel: `[z_dim]`.
    pub latents_std: Vec<f64>,
    /// Scales with attention in the encoder (not supported: no published checkpoint has any).
    pub attn_scales: Vec<f64>,
    /// The architecture of Wan 2.2 (not supported).
    pub is_residual: bool,
    /// Colour channels of the pixels, 3.
    pub in_channels: i64,
    /// Colour channels of the pixels, 3.
    pub out_channels: i64,
    /// Pixels folded into channels by Wan 2.2 (not supported).
    pub patch_size: Option<i64>,
}

impl Default for WanVaeConfig {
    fn default() -> Self {
        Self {
            base_dim: 96,
            decoder_base_dim: None,
            z_dim: 16,
            dim_mult: vec![1, 2, 4, 4],
            num_res_blocks: 2,
            temporal_downsample: vec![false, true, true],
            latents_mean: vec![
                -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508, 0.4134, -0.0715, 0.5517,
                -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
            ],
            latents_std: vec![
                2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743, 3.2687, 2.1526, 2.8652,
                1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
            ],
            attn_scales: Vec::new(),
            is_residual: false,
            in_channels: 3,
            out_channels: 3,
            patch_size: None,
        }
    }
}

/// Frames per latent frame, except the first: its latent frame is of that frame alone.
pub const TEMPORAL_FACTOR: i64 = 4;

impl WanVaeConfig {
    /// Checks that this architecture is supported.
    ///
    /// # Errors
    /// A message naming the field that is not supported or contradicts another.
    pub fn check(&self) -> Result<(), String> {
        let sizes = [self.base_dim, self.decoder_dim(), self.z_dim, self.num_res_blocks];
        if self.is_residual || self.patch_size.is_some() {
            return Err(
                "is_residual and patch_size (the autoencoder of Wan 2.2) are not supported".to_owned()
            );
        }
        if !self.attn_scales.is_empty() {
            return Err("attn_scales is not supported".to_owned());
        }
        if self.in_channels != 3 || self.out_channels != 3 {
            return Err("in_channels and out_channels must be 3".to_owned());
        }
        if sizes.iter().chain(&self.dim_mult).any(|size| !(1..=4096).contains(size)) {
            return Err("sizes must be from 1 to 4096".to_owned());
        }
        // The decoder halves its channels at each step up.
        if self.decoder_dim() * self.dim_mult.iter().min().unwrap_or(&1) % 2 != 0 {
            return Err("the decoder's channels must be even".to_owned());
        }
        if self.dim_mult.len() != self.temporal_downsample.len() + 1 || self.dim_mult.len() > 8 {
            return Err("dim_mult must have one entry more than temperal_downsample, at most 8".to_owned());
        }
        let halvings = self.temporal_downsample.iter().filter(|halves| **halves).count();
        if 1 << halvings != TEMPORAL_FACTOR {
            return Err("temperal_downsample must be true at two levels".to_owned());
        }
        for (name, values) in [("latents_mean", &self.latents_mean), ("latents_std", &self.latents_std)] {
            if values.len() != self.z_dim as usize {
                return Err(format!("{name} must have z_dim = {} entries", self.z_dim));
            }
        }
        Ok(())
    }

    /// Channels of the decoder's last level.
    pub fn decoder_dim(&self) -> i64 {
        self.decoder_base_dim.unwrap_or(self.base_dim)
    }

    /// Pixels a latent spans in each direction.
    pub fn spatial_factor(&self) -> i64 {
        1 << self.temporal_downsample.len()
    }

    /// Channels of [`first_frame_condition`](super::WanVae::first_frame_condition).
    pub fn condition_channels(&self) -> i64 {
        TEMPORAL_FACTOR + self.z_dim
    }

    /// Latent frames of a video of `frames` frames: 1 + (frames - 1) / 4.
    pub fn latent_frames(&self, frames: i64) -> i64 {
        1 + (frames - 1) / TEMPORAL_FACTOR
    }

    /// Frames of a video of `latent_frames` latent frames: 1 + 4 * (latent_frames - 1).
    pub fn frames(&self, latent_frames: i64) -> i64 {
        1 + TEMPORAL_FACTOR * (latent_frames - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wan_2_1_is_accepted_and_other_architectures_are_refused_by_name() {
        let wan = WanVaeConfig::default();
        assert_eq!(wan.check(), Ok(()));
        assert_eq!((wan.spatial_factor(), wan.latent_frames(81), wan.frames(21)), (8, 21, 81));
        for (config, word) in [
            (WanVaeConfig { is_residual: true, ..wan.clone() }, "is_residual"),
            (WanVaeConfig { patch_size: Some(2), ..wan.clone() }, "patch_size"),
            (WanVaeConfig { attn_scales: vec![0.5], ..wan.clone() }, "attn_scales"),
            (WanVaeConfig { z_dim: 48, ..wan.clone() }, "latents_mean"),
            (WanVaeConfig { temporal_downsample: vec![true; 3], ..wan.clone() }, "temperal_downsample"),
            (WanVaeConfig { base_dim: 0, ..wan.clone() }, "sizes"),
            (WanVaeConfig { dim_mult: vec![1], ..wan.clone() }, "dim_mult"),
        ] {
            let error = config.check().unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
