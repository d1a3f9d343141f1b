//! The latent upsampler (`LTX2LatentUpsamplerModel`): latents of a larger size or a higher frame rate.

mod config;
mod step;

use std::path::Path;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};
use videosdgx_tensor::{Checkpoint, CheckpointError, Quantization, TensorError, Weights, check_finite};

use config::GROUPS;
pub use config::Ltx2UpsamplerConfig;
use step::Resampler;

use crate::autoencoder::{FrameConv, frames_together, shape_error, size4};

/// A loaded upsampler.
///
/// Its methods compute with libtorch and must run inside [`videosdgx_tensor::catch_libtorch_errors`].
pub struct Ltx2Upsampler {
    config: Ltx2UpsamplerConfig,
    initial_conv: Conv3d,
    initial_norm: VideoNorm,
    before: Vec<ResidualBlock>,
    step: Resampler,
    after: Vec<ResidualBlock>,
    final_conv: Conv3d,
    kind: Kind,
    device: Device,
    resident_bytes: u64,
}

impl Ltx2Upsampler {
    /// Loads a folder with `config.json` and safetensors (`latent_upsampler/` of a checkpoint), computing in `kind` on
    /// `device`.
    ///
    /// # Errors
    /// [`TensorError::Checkpoint`] naming what is missing, broken or not supported; [`TensorError::OutOfMemory`].
    pub fn load(folder: &Path, device: Device, kind: Kind) -> Result<Self, TensorError> {
        let checkpoint = Checkpoint::open(folder)?;
        let config: Ltx2UpsamplerConfig = checkpoint.config()?;
        let invalid = |reason| CheckpointError::invalid(folder.join("config.json"), reason);
        config.check().map_err(invalid)?;
        let step = config.step().map_err(invalid)?;
        let weights = Weights::new(Arc::new(checkpoint), device, kind, Quantization::None);
        let (inputs, channels) = (config.in_channels, config.mid_channels);
        let stage = |name: &str| -> Result<Vec<ResidualBlock>, TensorError> {
            let weights = weights.at(name);
            (0..config.num_blocks_per_stage)
                .map(|index| ResidualBlock::load(&weights.at(index), channels))
                .collect()
        };
        Ok(Self {
            initial_conv: Conv3d::load(&weights.at("initial_conv"), inputs, channels)?,
            initial_norm: VideoNorm::load(&weights.at("initial_norm"), channels)?,
            before: stage("res_blocks")?,
            step: Resampler::load(&weights.at("upsampler"), step, channels)?,
            after: stage("post_upsample_res_blocks")?,
            final_conv: Conv3d::load(&weights.at("final_conv"), channels, inputs)?,
            kind,
            device,
            resident_bytes: weights.resident_bytes(),
            config,
        })
    }

    /// The configuration that it was loaded with.
    pub fn config(&self) -> &Ltx2UpsamplerConfig {
        &self.config
    }

    /// Bytes of its weights.
    pub fn resident_bytes(&self) -> u64 {
        self.resident_bytes
    }

    /// Latents `[1, z, f, h, w]`, not normalised → `[1, z, f', h', w']` f32 of the size that
    /// [`Ltx2UpsamplerConfig::output_size`] says: usually `[f, 2 h, 2 w]`.
    ///
    /// # Errors
    /// [`TensorError::Libtorch`] for a different shape, [`TensorError::NotFinite`] for a result with NaN or infinity.
    pub fn forward(&self, latents: &Tensor) -> Result<Tensor, TensorError> {
        let size = latents.size();
        if size.len() != 5 || size[0] != 1 || size[1] != self.config.in_channels || size.contains(&0) {
            let want = format!("[1, {}, f, h, w]", self.config.in_channels);
            return Err(shape_error("latents", &want, &size));
        }
        let x = latents
            .squeeze_dim(0)
            .permute([1, 2, 3, 0])
            .to_device(self.device)
            .to_kind(self.kind)
            .contiguous();
        let mut x = self.initial_norm.forward(&self.initial_conv.forward(&x)).silu_();
        for block in &self.before {
            x = block.forward(x);
        }
        x = self.step.forward(&x);
        for block in &self.after {
            x = block.forward(x);
        }
        let x = self.final_conv.forward(&x).to_kind(Kind::Float);
        check_finite(&x, "the latents after upsampling")?;
        Ok(x.permute([3, 0, 1, 2]).unsqueeze(0).contiguous())
    }
}

/// A 3 × 3 × 3 convolution with zeros around the video in time and space.
struct Conv3d(FrameConv);

impl Conv3d {
    fn load(weights: &Weights, inputs: i64, outputs: i64) -> Result<Self, TensorError> {
        Ok(Self(FrameConv::load(weights, inputs, outputs)?))
    }

    /// `[t, h, w, in]` → `[t, h, w, out]`.
    fn forward(&self, x: &Tensor) -> Tensor {
        let zeros = x.narrow(0, 0, 1).zeros_like();
        let mut frames = vec![zeros.shallow_clone()];
        frames.extend(x.split(1, 0));
        frames.push(zeros);
        self.0.forward(&frames, frames_together(x))
    }
}

/// Group normalisation (Wu & He 2018) over all frames and pixels of a group of channels.
struct VideoNorm {
    weight: Tensor,
    bias: Tensor,
}

/// Of the group normalisations.
const NORM_EPS: f64 = 1e-5;

impl VideoNorm {
    fn load(weights: &Weights, channels: i64) -> Result<Self, TensorError> {
        Ok(Self {
            weight: weights.tensor("weight", &[channels])?,
            bias: weights.tensor("bias", &[channels])?,
        })
    }

    /// `[t, h, w, c]` → the same.
    fn forward(&self, x: &Tensor) -> Tensor {
        let (frames, height, width, channels) = size4(x);
        // One picture of all frames, one below the other, in libtorch's channels-last layout.
        let picture = x.view([1, frames * height, width, channels]).permute([0, 3, 1, 2]);
        let normed = picture.group_norm(GROUPS, Some(&self.weight), Some(&self.bias), NORM_EPS, true);
        normed.permute([0, 2, 3, 1]).contiguous().view([frames, height, width, channels])
    }
}

/// Two convolutions with a residual connection.
struct ResidualBlock {
    conv1: Conv3d,
    norm1: VideoNorm,
    conv2: Conv3d,
    norm2: VideoNorm,
}

impl ResidualBlock {
    fn load(weights: &Weights, channels: i64) -> Result<Self, TensorError> {
        Ok(Self {
            conv1: Conv3d::load(&weights.at("conv1"), channels, channels)?,
            norm1: VideoNorm::load(&weights.at("norm1"), channels)?,
            conv2: Conv3d::load(&weights.at("conv2"), channels, channels)?,
            norm2: VideoNorm::load(&weights.at("norm2"), channels)?,
        })
    }

    fn forward(&self, x: Tensor) -> Tensor {
        let y = self.norm1.forward(&self.conv1.forward(&x)).silu_();
        let mut y = self.norm2.forward(&self.conv2.forward(&y));
        y += x;
        y.silu_()
    }
}
