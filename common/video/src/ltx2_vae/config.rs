//! `config.json` of an `AutoencoderKLLTX2Video`.

use serde::Deserialize;

use super::plan::{Layer, decoder_layers, encoder_layers, tensors_of};
use crate::autoencoder::VaeParts;

/// Sizes of the autoencoder. Default of every field: the default of diffusers' class, which is LTX-2.0's value except for
/// `decoder_causal`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Ltx2VaeConfig {
    /// Colour channels of the pixels, 3.
    pub in_channels: i64,
    /// Colour channels of the pixels, 3.
    pub out_channels: i64,
    /// Channels of the latents.
    pub latent_channels: i64,
    /// Channels after each step of the encoder.
    pub block_out_channels: Vec<i64>,
    /// Kinds of the encoder's blocks.
    pub down_block_types: Vec<String>,
    /// Channels before each step of the decoder, the last step first.
    pub decoder_block_out_channels: Vec<i64>,
    /// Residual blocks before each step of the encoder, and after the last.
    pub layers_per_block: Vec<i64>,
    /// Residual blocks after each step of the decoder, the last step first, and before the first.
    pub decoder_layers_per_block: Vec<i64>,
    /// Whether each block of the encoder has its step; must be true.
    pub spatio_temporal_scaling: Flags,
    /// Whether each block of the decoder has its step; must be true.
    pub decoder_spatio_temporal_scaling: Flags,
    /// Noise in the decoder's blocks (not supported: no published checkpoint has any).
    pub decoder_inject_noise: Flags,
    /// What each step of the encoder halves: `"spatial"`, `"temporal"` or `"spatiotemporal"`.
    pub downsample_type: Vec<String>,
    /// What each step of the decoder doubles, in the order of the steps.
    pub upsample_type: Vec<String>,
    /// Whether each step of the decoder has a residual connection, the last step first.
    pub upsample_residual: Flags,
    /// What each step of the decoder divides the channels by, the last step first.
    pub upsample_factor: Vec<i64>,
    /// A decoder that takes a timestep (not supported: no published checkpoint has one).
    pub timestep_conditioning: bool,
    /// Pixels in each direction that are folded into channels.
    pub patch_size: i64,
    /// Frames that are folded into channels; must be 1.
    pub patch_size_t: i64,
    /// Factor of the normalised latents.
    pub scaling_factor: f64,
    /// Whether the encoder sees no later frames; must be true.
    pub encoder_causal: bool,
    /// Whether the decoder sees no later latents.
    pub decoder_causal: bool,
    /// Border of the encoder's convolutions: `"zeros"` or `"reflect"`.
    pub encoder_spatial_padding_mode: String,
    /// Border of the decoder's convolutions: `"zeros"` or `"reflect"`.
    pub decoder_spatial_padding_mode: String,
    /// Pixels of a latent in each direction, as declared.
    pub spatial_compression_ratio: Option<i64>,
    /// Frames of a latent, as declared.
    pub temporal_compression_ratio: Option<i64>,
}

/// One flag for all blocks, or one for each.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Flags {
    /// The same for all.
    All(bool),
    /// In the order of the blocks.
    Each(Vec<bool>),
}

impl Flags {
    /// The flag of block `index`; false where there is none.
    pub(super) fn at(&self, index: usize) -> bool {
        match self {
            Self::All(flag) => *flag,
            Self::Each(flags) => flags.get(index).copied().unwrap_or(false),
        }
    }

    fn any(&self) -> bool {
        match self {
            Self::All(flag) => *flag,
            Self::Each(flags) => flags.contains(&true),
        }
    }

    fn all(&self, count: usize) -> bool {
        (0..count).all(|index| self.at(index))
    }
}

impl Default for Ltx2VaeConfig {
    fn default() -> Self {
        let steps = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Self {
            in_channels: 3,
            out_channels: 3,
            latent_channels: 128,
            block_out_channels: vec![256, 512, 1024, 2048],
            down_block_types: vec![DOWN_BLOCK.to_owned(); 4],
            decoder_block_out_channels: vec![256, 512, 1024],
            layers_per_block: vec![4, 6, 6, 2, 2],
            decoder_layers_per_block: vec![5; 4],
            spatio_temporal_scaling: Flags::All(true),
            decoder_spatio_temporal_scaling: Flags::All(true),
            decoder_inject_noise: Flags::All(false),
            downsample_type: steps(&["spatial", "temporal", "spatiotemporal", "spatiotemporal"]),
            upsample_type: steps(&["spatiotemporal"; 3]),
            upsample_residual: Flags::All(true),
            upsample_factor: vec![2; 3],
            timestep_conditioning: false,
            patch_size: 4,
            patch_size_t: 1,
            scaling_factor: 1.0,
            encoder_causal: true,
            decoder_causal: true,
            encoder_spatial_padding_mode: "zeros".to_owned(),
            decoder_spatial_padding_mode: "reflect".to_owned(),
            spatial_compression_ratio: None,
            temporal_compression_ratio: None,
        }
    }
}

const DOWN_BLOCK: &str = "LTX2VideoDownBlock3D";
/// The widest layer that is accepted, in channels.
const MOST_CHANNELS: i64 = 8192;

impl Ltx2VaeConfig {
    /// Checks that this architecture is supported.
    ///
    /// # Errors
    /// A message naming the field that is not supported or contradicts another.
    pub fn check(&self) -> Result<(), String> {
        self.check_options()?;
        self.check_lengths()?;
        let (encoder, decoder) = (encoder_layers(self)?, decoder_layers(self)?);
        let ratios = |layers: &[Layer]| {
            layers.iter().fold([1, self.patch_size], |[t, s], layer| {
                let [time, space] = layer.stride();
                [t * time, s * space]
            })
        };
        let ratio = ratios(&decoder);
        if ratios(&encoder) != ratio {
            return Err("downsample_type and upsample_type must have the same ratios".to_owned());
        }
        let declared = [self.temporal_compression_ratio, self.spatial_compression_ratio];
        for ((name, declared), ratio) in
            ["temporal_compression_ratio", "spatial_compression_ratio"].iter().zip(declared).zip(ratio)
        {
            if declared.is_some_and(|declared| declared != ratio) {
                return Err(format!("{name} must be {ratio}, the ratio of the blocks"));
            }
        }
        Ok(())
    }

    fn check_options(&self) -> Result<(), String> {
        let refused = [
            (self.timestep_conditioning, "timestep_conditioning"),
            (self.decoder_inject_noise.any(), "decoder_inject_noise"),
            (!self.encoder_causal, "encoder_causal = false"),
            (self.patch_size_t != 1, "patch_size_t other than 1"),
            (self.in_channels != 3, "in_channels other than 3"),
            (self.out_channels != 3, "out_channels other than 3"),
            (self.down_block_types.iter().any(|kind| kind != DOWN_BLOCK), "a kind in down_block_types"),
        ];
        if let Some((_, what)) = refused.iter().find(|(refused, _)| *refused) {
            return Err(format!("{what} is not supported"));
        }
        for (name, mode) in [
            ("encoder_spatial_padding_mode", &self.encoder_spatial_padding_mode),
            ("decoder_spatial_padding_mode", &self.decoder_spatial_padding_mode),
        ] {
            if mode != "zeros" && mode != "reflect" {
                return Err(format!("{name} must be \"zeros\" or \"reflect\", not {mode:?}"));
            }
        }
        if !(1..=16).contains(&self.patch_size) {
            return Err("patch_size must be from 1 to 16".to_owned());
        }
        if !self.scaling_factor.is_finite() || self.scaling_factor == 0.0 {
            return Err("scaling_factor must be a number other than 0".to_owned());
        }
        Ok(())
    }

    fn check_lengths(&self) -> Result<(), String> {
        let (down, up) = (self.block_out_channels.len(), self.decoder_block_out_channels.len());
        if !(1..=8).contains(&down) || !(1..=8).contains(&up) {
            return Err(
                "block_out_channels and decoder_block_out_channels must have 1 to 8 entries".to_owned()
            );
        }
        for (name, length, want) in [
            ("layers_per_block", self.layers_per_block.len(), down + 1),
            ("downsample_type", self.downsample_type.len(), down),
            ("decoder_layers_per_block", self.decoder_layers_per_block.len(), up + 1),
            ("upsample_type", self.upsample_type.len(), up),
            ("upsample_factor", self.upsample_factor.len(), up),
        ] {
            if length != want {
                return Err(format!("{name} must have {want} entries, not {length}"));
            }
        }
        let channels = self.block_out_channels.iter().chain(&self.decoder_block_out_channels);
        if channels.chain([&self.latent_channels]).any(|channels| !(1..=MOST_CHANNELS).contains(channels)) {
            return Err(format!("channels must be from 1 to {MOST_CHANNELS}"));
        }
        let layers = self.layers_per_block.iter().chain(&self.decoder_layers_per_block);
        if layers.clone().any(|count| !(0..=64).contains(count)) {
            return Err("layers_per_block and decoder_layers_per_block must be from 0 to 64".to_owned());
        }
        if !self.spatio_temporal_scaling.all(down) || !self.decoder_spatio_temporal_scaling.all(up) {
            return Err("spatio_temporal_scaling = false is not supported".to_owned());
        }
        if let Flags::Each(flags) = &self.upsample_residual
            && flags.len() != up
        {
            return Err(format!("upsample_residual must have {up} entries, not {}", flags.len()));
        }
        Ok(())
    }

    /// Frames of a latent, except the first: its latent is of that frame alone. 8 in the published checkpoints.
    pub fn temporal_factor(&self) -> i64 {
        self.downsample_type.iter().filter(|step| *step != "spatial").fold(1, |factor, _| 2 * factor)
    }

    /// Pixels of a latent in each direction: 32 in the published checkpoints.
    pub fn spatial_factor(&self) -> i64 {
        let steps = self.downsample_type.iter().filter(|step| *step != "temporal");
        steps.fold(self.patch_size, |factor, _| 2 * factor)
    }

    /// Latent frames of a video of `frames` frames: 1 + (frames - 1) / 8.
    pub fn latent_frames(&self, frames: i64) -> i64 {
        1 + (frames - 1) / self.temporal_factor()
    }

    /// Frames of a video of `latent_frames` latent frames: 1 + 8 * (latent_frames - 1).
    pub fn frames(&self, latent_frames: i64) -> i64 {
        1 + self.temporal_factor() * (latent_frames - 1)
    }

    /// Names and shapes of the tensors that loading `parts` reads.
    ///
    /// # Errors
    /// As [`Ltx2VaeConfig::check`].
    pub fn expected_tensors(&self, parts: VaeParts) -> Result<Vec<(String, Vec<i64>)>, String> {
        self.check()?;
        let mut layers = decoder_layers(self)?;
        if parts == VaeParts::Both {
            layers.extend(encoder_layers(self)?);
        }
        let mut tensors = tensors_of(&layers);
        tensors.extend(
            ["latents_mean", "latents_std"].map(|name| (name.to_owned(), vec![self.latent_channels])),
        );
        Ok(tensors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The configuration of LTX-2.3.
    fn ltx_2_3() -> Ltx2VaeConfig {
        Ltx2VaeConfig {
            block_out_channels: vec![256, 512, 1024, 1024],
            decoder_block_out_channels: vec![256, 512, 512, 1024],
            layers_per_block: vec![4, 6, 4, 2, 2],
            decoder_layers_per_block: vec![4, 6, 4, 2, 2],
            upsample_type: ["spatiotemporal", "spatiotemporal", "temporal", "spatial"]
                .map(str::to_owned)
                .to_vec(),
            upsample_residual: Flags::Each(vec![false; 4]),
            upsample_factor: vec![2, 2, 1, 2],
            decoder_causal: false,
            decoder_spatial_padding_mode: "zeros".to_owned(),
            spatial_compression_ratio: Some(32),
            temporal_compression_ratio: Some(8),
            ..Ltx2VaeConfig::default()
        }
    }

    #[test]
    fn published_configurations_are_accepted() {
        for config in [Ltx2VaeConfig::default(), ltx_2_3()] {
            assert_eq!(config.check(), Ok(()));
            assert_eq!((config.spatial_factor(), config.temporal_factor()), (32, 8));
            assert_eq!((config.latent_frames(121), config.frames(16)), (16, 121));
        }
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        let refused = |change: fn(&mut Ltx2VaeConfig), word: &str| {
            let mut config = ltx_2_3();
            change(&mut config);
            let error = config.check().unwrap_err();
            assert!(error.contains(word), "{error}");
            assert!(config.expected_tensors(VaeParts::Both).is_err());
        };
        refused(|config| config.timestep_conditioning = true, "timestep_conditioning");
        refused(
            |config| config.decoder_inject_noise = Flags::Each(vec![false, true]),
            "decoder_inject_noise",
        );
        refused(|config| config.encoder_causal = false, "encoder_causal");
        refused(|config| config.patch_size_t = 2, "patch_size_t");
        refused(|config| config.patch_size = 0, "patch_size");
        refused(|config| config.out_channels = 4, "out_channels");
        refused(|config| config.down_block_types[1] = "DownBlock".to_owned(), "down_block_types");
        refused(
            |config| config.decoder_spatial_padding_mode = "circular".to_owned(),
            "decoder_spatial_padding",
        );
        refused(|config| config.scaling_factor = 0.0, "scaling_factor");
        refused(|config| config.downsample_type[0] = "conv".to_owned(), "downsample_type");
        refused(|config| config.upsample_type[0] = "conv".to_owned(), "upsample_type");
        refused(|config| config.upsample_type[0] = "spatial".to_owned(), "same ratios");
        refused(|config| config.temporal_compression_ratio = Some(4), "temporal_compression_ratio");
        refused(|config| config.spatial_compression_ratio = Some(16), "spatial_compression_ratio");
        refused(|config| config.layers_per_block.clear(), "layers_per_block");
        refused(|config| config.upsample_residual = Flags::Each(vec![false]), "upsample_residual");
        refused(|config| config.decoder_block_out_channels[1] = 1024, "decoder_block_out_channels");
        refused(|config| config.upsample_factor[0] = 3, "upsample_factor");
        refused(|config| config.block_out_channels[3] = 1028, "block_out_channels");
        refused(|config| config.latent_channels = 0, "channels");
        refused(|config| config.layers_per_block[0] = 65, "layers_per_block");
        refused(|config| config.spatio_temporal_scaling = Flags::All(false), "spatio_temporal_scaling");
    }
}
