//! `config.json` of an `LTX2LatentUpsamplerModel`.

use serde::Deserialize;
use tch::Kind;

/// Sizes of the upsampler. Default of every field: LTX-2.0's value.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Ltx2UpsamplerConfig {
    /// Channels of the latents.
    pub in_channels: i64,
    /// Channels between, a multiple of 32.
    pub mid_channels: i64,
    /// Residual blocks before the step, and as many after it.
    pub num_blocks_per_stage: i64,
    /// Dimensions of the convolutions; must be 3.
    pub dims: i64,
    /// Whether the size grows.
    pub spatial_upsample: bool,
    /// Whether the frame rate is doubled.
    pub temporal_upsample: bool,
    /// Factor of the size with `use_rational_resampler`: 0.75, 1.5, 2 or 4.
    pub rational_spatial_scale: f64,
    /// Whether the size is multiplied by `rational_spatial_scale`; otherwise it is doubled.
    pub use_rational_resampler: bool,
}

impl Default for Ltx2UpsamplerConfig {
    fn default() -> Self {
        Self {
            in_channels: 128,
            mid_channels: 1024,
            num_blocks_per_stage: 4,
            dims: 3,
            spatial_upsample: true,
            temporal_upsample: false,
            rational_spatial_scale: 2.0,
            use_rational_resampler: true,
        }
    }
}

/// How the size of latents changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Doubles time, space (as the flags say), by a convolution over time and space.
    Whole { time: i64, space: i64 },
    /// Doubles the size of each frame.
    Frames,
    /// Multiplies the size of each frame by `up` and divides it by `down`.
    Rational { up: i64, down: i64 },
}

impl Step {
    /// Outputs of the step's convolution for each channel.
    pub(super) fn cell(self) -> i64 {
        match self {
            Self::Whole { time, space } => time * space * space,
            Self::Frames => 4,
            Self::Rational { up, .. } => up * up,
        }
    }
}

/// Groups of the normalisations.
pub(super) const GROUPS: i64 = 32;

impl Ltx2UpsamplerConfig {
    /// Checks that this architecture is supported.
    ///
    /// # Errors
    /// A message naming the field that is not supported or contradicts another.
    pub fn check(&self) -> Result<(), String> {
        if self.dims != 3 {
            return Err(format!("dims = {} is not supported, only 3", self.dims));
        }
        if !(1..=8192).contains(&self.in_channels) || !(1..=8192).contains(&self.mid_channels) {
            return Err("in_channels and mid_channels must be from 1 to 8192".to_owned());
        }
        if self.mid_channels % GROUPS != 0 {
            return Err(format!("mid_channels must be a multiple of {GROUPS}"));
        }
        if !(0..=64).contains(&self.num_blocks_per_stage) {
            return Err("num_blocks_per_stage must be from 0 to 64".to_owned());
        }
        self.step().map(|_| ())
    }

    pub(super) fn step(&self) -> Result<Step, String> {
        match (self.spatial_upsample, self.temporal_upsample) {
            (true, true) => Ok(Step::Whole { time: 2, space: 2 }),
            (false, true) => Ok(Step::Whole { time: 2, space: 1 }),
            (false, false) => Err("spatial_upsample or temporal_upsample must be true".to_owned()),
            (true, false) if !self.use_rational_resampler => Ok(Step::Frames),
            (true, false) => match self.rational_spatial_scale {
                0.75 => Ok(Step::Rational { up: 3, down: 4 }),
                1.5 => Ok(Step::Rational { up: 3, down: 2 }),
                2.0 => Ok(Step::Rational { up: 2, down: 1 }),
                4.0 => Ok(Step::Rational { up: 4, down: 1 }),
                scale => Err(format!("rational_spatial_scale {scale} must be 0.75, 1.5, 2 or 4")),
            },
        }
    }

    /// Size of the result for latents of `[frames, height, width]`.
    ///
    /// # Errors
    /// As [`Ltx2UpsamplerConfig::check`].
    pub fn output_size(&self, [frames, height, width]: [i64; 3]) -> Result<[i64; 3], String> {
        Ok(match self.step()? {
            Step::Whole { time, space } => [frames * time - (time - 1), height * space, width * space],
            Step::Frames => [frames, height * 2, width * 2],
            Step::Rational { up, down } => {
                [frames, (height * up - 1) / down + 1, (width * up - 1) / down + 1]
            }
        })
    }

    /// Upper bound of the bytes that latents of `[frames, height, width]` need beside the weights, computing in `kind`. It
    /// grows with all three: the normalisations see the whole video.
    ///
    /// # Errors
    /// As [`Ltx2UpsamplerConfig::check`].
    pub fn activation_bytes(&self, size: [i64; 3], kind: Kind) -> Result<u64, String> {
        let cell = self.step()?.cell();
        let values = |size: [i64; 3]| size.iter().product::<i64>() * self.mid_channels;
        // A block: the input, the two convolutions' results, a normalised copy, and three copies of each frame. The step:
        // its convolution's result, rearranged, with a frame that is dropped.
        let block = 8 * values(size).max(values(self.output_size(size)?));
        let step = values([size[0] + 1, size[1], size[2]]) * (6 + 3 * cell);
        let scratch = 27 * self.mid_channels * self.mid_channels.max(self.in_channels);
        let scratch = scratch.max(27 * self.mid_channels * self.mid_channels * cell);
        let element = kind.elt_size_in_bytes() as i64;
        Ok(((block.max(step) + scratch) * element).unsigned_abs())
    }

    /// Names and shapes of the tensors that loading reads.
    ///
    /// # Errors
    /// As [`Ltx2UpsamplerConfig::check`].
    pub fn expected_tensors(&self) -> Result<Vec<(String, Vec<i64>)>, String> {
        self.check()?;
        let (inputs, channels) = (self.in_channels, self.mid_channels);
        let mut tensors = Vec::new();
        let mut conv = |name: &str, inputs, outputs, dimensions| {
            let kernel = std::iter::repeat_n(3, dimensions);
            tensors.push((format!("{name}.weight"), [outputs, inputs].into_iter().chain(kernel).collect()));
            tensors.push((format!("{name}.bias"), vec![outputs]));
        };
        conv("initial_conv", inputs, channels, 3);
        conv("final_conv", channels, inputs, 3);
        let step = self.step()?;
        let outputs = channels * step.cell();
        match step {
            Step::Whole { .. } => conv("upsampler.0", channels, outputs, 3),
            Step::Frames => conv("upsampler.0", channels, outputs, 2),
            Step::Rational { .. } => conv("upsampler.conv", channels, outputs, 2),
        }
        let mut norms = vec!["initial_norm".to_owned()];
        for stage in ["res_blocks", "post_upsample_res_blocks"] {
            for block in 0..self.num_blocks_per_stage {
                for index in 1..=2 {
                    conv(&format!("{stage}.{block}.conv{index}"), channels, channels, 3);
                    norms.push(format!("{stage}.{block}.norm{index}"));
                }
            }
        }
        for norm in norms {
            tensors.extend(["weight", "bias"].map(|part| (format!("{norm}.{part}"), vec![channels])));
        }
        if matches!(step, Step::Rational { .. }) {
            tensors.push(("upsampler.blur_down.kernel".to_owned(), vec![1, 1, 5, 5]));
        }
        Ok(tensors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_configurations_are_accepted_and_others_are_refused_by_name() {
        let published = Ltx2UpsamplerConfig::default();
        assert_eq!(published.check(), Ok(()));
        assert_eq!(published.output_size([16, 17, 30]), Ok([16, 34, 60]));
        for (config, word) in [
            (Ltx2UpsamplerConfig { dims: 2, ..published.clone() }, "dims"),
            (Ltx2UpsamplerConfig { mid_channels: 48, ..published.clone() }, "mid_channels"),
            (Ltx2UpsamplerConfig { in_channels: 0, ..published.clone() }, "in_channels"),
            (Ltx2UpsamplerConfig { num_blocks_per_stage: -1, ..published.clone() }, "num_blocks_per_stage"),
            (Ltx2UpsamplerConfig { spatial_upsample: false, ..published.clone() }, "spatial_upsample"),
            (
                Ltx2UpsamplerConfig { rational_spatial_scale: 3.0, ..published.clone() },
                "rational_spatial_scale",
            ),
        ] {
            let error = config.check().unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
