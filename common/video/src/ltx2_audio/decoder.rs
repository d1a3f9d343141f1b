//! Latents to mel spectrograms.

use tch::Tensor;
use videosdgx_tensor::{TensorError, Weights};

use super::blocks::{Head, Stage};
use super::config::Ltx2AudioVaeConfig;
use super::conv::CausalConv;

pub(super) struct Decoder {
    conv_in: CausalConv,
    middle: Stage,
    /// The coarsest level first; each but the last is followed by the convolution after doubling.
    levels: Vec<(Stage, Option<CausalConv>)>,
    head: Head,
}

impl Decoder {
    pub(super) fn load(weights: &Weights, config: &Ltx2AudioVaeConfig) -> Result<Self, TensorError> {
        let weights = weights.at("decoder");
        let coarsest = config.channels(config.ch_mult.len() - 1);
        let conv_in = CausalConv::load(&weights.at("conv_in"), config.latent_channels, coarsest, 3)?;
        let middle = Stage::load_middle(&weights.at("mid"), coarsest)?;
        let mut levels = Vec::new();
        let mut inputs = coarsest;
        for level in (0..config.ch_mult.len()).rev() {
            let part = weights.at("up").at(level);
            let outputs = config.channels(level);
            let stage = Stage::load(&part, inputs, outputs, config.num_res_blocks + 1)?;
            let doubling = (level > 0)
                .then(|| CausalConv::load(&part.at("upsample.conv"), outputs, outputs, 3))
                .transpose()?;
            levels.push((stage, doubling));
            inputs = outputs;
        }
        let outputs = config.output_channels;
        Ok(Self { conv_in, middle, levels, head: Head::load(&weights, inputs, outputs, outputs)? })
    }

    /// `[1, n, bins, z]` → `[1, 4n - 3, 4 · bins, channels]`.
    pub(super) fn forward(&self, latents: &Tensor) -> Tensor {
        let mut x = self.middle.forward(self.conv_in.forward(latents));
        for (stage, doubling) in &self.levels {
            x = stage.forward(x);
            if let Some(conv) = doubling {
                // The first frame has no predecessor, so only one of its two copies remains.
                x = conv.forward_from(&doubled(&x), 1);
            }
        }
        self.head.forward(&x)
    }
}

/// Every frame and bin twice: `[1, t, m, c]` → `[1, 2t, 2m, c]`.
fn doubled(x: &Tensor) -> Tensor {
    let size = x.size();
    let y = x.permute([0, 3, 1, 2]).upsample_nearest2d([2 * size[1], 2 * size[2]], None, None);
    y.permute([0, 2, 3, 1]).contiguous()
}
