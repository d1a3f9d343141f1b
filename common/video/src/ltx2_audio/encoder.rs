//! Mel spectrograms to latents.

use tch::Tensor;
use videosdgx_tensor::{TensorError, Weights};

use super::blocks::{Head, Stage};
use super::config::Ltx2AudioVaeConfig;
use super::conv::{CausalConv, HalvingConv};

pub(super) struct Encoder {
    conv_in: CausalConv,
    /// The finest level first; each but the last is followed by a halving.
    levels: Vec<(Stage, Option<HalvingConv>)>,
    middle: Stage,
    head: Head,
}

impl Encoder {
    pub(super) fn load(weights: &Weights, config: &Ltx2AudioVaeConfig) -> Result<Self, TensorError> {
        let weights = weights.at("encoder");
        let conv_in = CausalConv::load(&weights.at("conv_in"), config.in_channels, config.base_channels, 3)?;
        let mut levels = Vec::new();
        let mut inputs = config.base_channels;
        for level in 0..config.ch_mult.len() {
            let part = weights.at("down").at(level);
            let outputs = config.channels(level);
            let stage = Stage::load(&part, inputs, outputs, config.num_res_blocks)?;
            let halving = (level + 1 < config.ch_mult.len())
                .then(|| HalvingConv::load(&part.at("downsample"), outputs))
                .transpose()?;
            levels.push((stage, halving));
            inputs = outputs;
        }
        let z = config.latent_channels;
        Ok(Self {
            conv_in,
            levels,
            middle: Stage::load_middle(&weights.at("mid"), inputs)?,
            // Half of the outputs are the variance, which nothing uses.
            head: Head::load(&weights, inputs, 2 * z, z)?,
        })
    }

    /// `[1, t, mel bins, channels]` → the mean of the latents, `[1, ⌈t / 4⌉, mel bins / 4, z]`.
    pub(super) fn forward(&self, mel: &Tensor) -> Tensor {
        let mut x = self.conv_in.forward(mel);
        for (stage, halving) in &self.levels {
            x = stage.forward(x);
            if let Some(halving) = halving {
                x = halving.forward(&x);
            }
        }
        self.head.forward(&self.middle.forward(x))
    }
}
