//! The layers of encoder and decoder as a configuration says: what is loaded, which tensors that needs, and how much memory.

use super::config::Ltx2VaeConfig;

/// A layer: its name in the checkpoint, its channels, and the pixels and frames that a value of its input spans.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub(super) name: String,
    pub(super) kind: LayerKind,
    pub(super) inputs: i64,
    pub(super) outputs: i64,
    /// In each direction.
    pub(super) pixels: i64,
    pub(super) frames: i64,
}

/// What a layer computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LayerKind {
    /// The first convolution.
    Conv,
    /// Two convolutions with a residual connection.
    Residual,
    /// Halves size and rate as `stride` (time, space) says.
    Down { stride: [i64; 2] },
    /// Doubles size and rate as `stride` (time, space) says.
    Up { stride: [i64; 2], residual: bool },
    /// The last normalisation, activation and convolution.
    Head,
}

impl Layer {
    /// Time and space.
    pub(super) fn stride(&self) -> [i64; 2] {
        match self.kind {
            LayerKind::Down { stride } | LayerKind::Up { stride, .. } => stride,
            LayerKind::Conv | LayerKind::Residual | LayerKind::Head => [1, 1],
        }
    }

    /// Values of a `[time, space, space]` cell of its stride.
    pub(super) fn cell(&self) -> i64 {
        let [time, space] = self.stride();
        time * space * space
    }

    /// Outputs of the convolution itself, before pixels become channels or channels become pixels.
    pub(super) fn conv_outputs(&self) -> i64 {
        match self.kind {
            LayerKind::Down { .. } => self.outputs / self.cell(),
            LayerKind::Up { .. } => self.outputs * self.cell(),
            LayerKind::Conv | LayerKind::Residual | LayerKind::Head => self.outputs,
        }
    }

    /// Names below the layer's own and channels (in, out) of its convolutions.
    fn convolutions(&self) -> Vec<(&'static str, i64, i64)> {
        let outputs = self.conv_outputs();
        match self.kind {
            LayerKind::Conv | LayerKind::Head => vec![("conv", self.inputs, outputs)],
            LayerKind::Down { .. } | LayerKind::Up { .. } => vec![("conv.conv", self.inputs, outputs)],
            LayerKind::Residual => {
                vec![("conv1.conv", self.inputs, outputs), ("conv2.conv", outputs, outputs)]
            }
        }
    }
}

/// Names and shapes of the tensors of `layers`.
pub(super) fn tensors_of(layers: &[Layer]) -> Vec<(String, Vec<i64>)> {
    let mut tensors = Vec::new();
    for layer in layers {
        for (conv, inputs, outputs) in layer.convolutions() {
            tensors.push((format!("{}.{conv}.weight", layer.name), vec![outputs, inputs, 3, 3, 3]));
            tensors.push((format!("{}.{conv}.bias", layer.name), vec![outputs]));
        }
    }
    tensors
}

/// Time and space of a step.
fn stride(field: &str, name: &str) -> Result<[i64; 2], String> {
    match name {
        "spatial" => Ok([1, 2]),
        "temporal" => Ok([2, 1]),
        "spatiotemporal" => Ok([2, 2]),
        _ => Err(format!("{field} {name:?} is not supported")),
    }
}

/// Collects layers in their order.
struct Builder {
    layers: Vec<Layer>,
    channels: i64,
    pixels: i64,
    frames: i64,
}

impl Builder {
    fn push(&mut self, name: String, kind: LayerKind, outputs: i64) {
        let (pixels, frames) = (self.pixels, self.frames);
        let layer = Layer { name, kind, inputs: self.channels, outputs, pixels, frames };
        (self.pixels, self.frames) = match kind {
            LayerKind::Down { stride: [time, space] } => (pixels * space, frames * time),
            LayerKind::Up { stride: [time, space], .. } => (pixels / space, frames / time),
            LayerKind::Conv | LayerKind::Residual | LayerKind::Head => (pixels, frames),
        };
        self.channels = outputs;
        self.layers.push(layer);
    }

    fn residual_blocks(&mut self, block: &str, count: i64) {
        for index in 0..count {
            self.push(format!("{block}.resnets.{index}"), LayerKind::Residual, self.channels);
        }
    }
}

/// The encoder: frames `[t, h, w, 3]` in patches to the mean and one variance of the latents.
pub(super) fn encoder_layers(config: &Ltx2VaeConfig) -> Result<Vec<Layer>, String> {
    let patch = config.patch_size;
    let channels = config.in_channels * patch * patch;
    let mut builder = Builder { layers: Vec::new(), channels, pixels: patch, frames: 1 };
    builder.push("encoder.conv_in".to_owned(), LayerKind::Conv, config.latent_channels);
    for (index, &outputs) in config.block_out_channels.iter().enumerate() {
        let block = format!("encoder.down_blocks.{index}");
        builder.residual_blocks(&block, config.layers_per_block[index]);
        let stride = stride("downsample_type", &config.downsample_type[index])?;
        let cell = stride[0] * stride[1] * stride[1];
        if outputs % cell != 0 || builder.channels * cell % outputs != 0 {
            return Err(format!(
                "block_out_channels {outputs} does not fit {} channels before it",
                builder.channels
            ));
        }
        builder.push(format!("{block}.downsamplers.0"), LayerKind::Down { stride }, outputs);
    }
    builder.residual_blocks("encoder.mid_block", config.layers_per_block[config.block_out_channels.len()]);
    builder.push("encoder.conv_out".to_owned(), LayerKind::Head, config.latent_channels + 1);
    Ok(builder.layers)
}

/// The decoder: latents to frames in patches.
pub(super) fn decoder_layers(config: &Ltx2VaeConfig) -> Result<Vec<Layer>, String> {
    let steps = config.decoder_block_out_channels.len();
    let mut builder = Builder {
        layers: Vec::new(),
        channels: config.latent_channels,
        pixels: config.spatial_factor(),
        frames: config.temporal_factor(),
    };
    builder.push("decoder.conv_in".to_owned(), LayerKind::Conv, config.decoder_block_out_channels[steps - 1]);
    builder.residual_blocks("decoder.mid_block", config.decoder_layers_per_block[steps]);
    for step in 0..steps {
        // Sizes are given for the last step first, the kinds of the steps in their order.
        let reversed = steps - 1 - step;
        let (channels, factor) =
            (config.decoder_block_out_channels[reversed], config.upsample_factor[reversed]);
        let stride = stride("upsample_type", &config.upsample_type[step])?;
        let cell = stride[0] * stride[1] * stride[1];
        let residual = config.upsample_residual.at(reversed);
        if channels != builder.channels {
            return Err(format!(
                "decoder_block_out_channels {channels} must be {}: blocks that change the channels otherwise than \
                 by upsample_factor are not supported",
                builder.channels
            ));
        }
        if factor < 1 || channels % factor != 0 || (residual && (channels % cell != 0 || cell % factor != 0))
        {
            return Err(format!("upsample_factor {factor} does not fit {channels} channels"));
        }
        let block = format!("decoder.up_blocks.{step}");
        let kind = LayerKind::Up { stride, residual };
        builder.push(format!("{block}.upsamplers.0"), kind, channels / factor);
        builder.residual_blocks(&block, config.decoder_layers_per_block[reversed]);
    }
    let patches = config.out_channels * config.patch_size * config.patch_size;
    builder.push("decoder.conv_out".to_owned(), LayerKind::Head, patches);
    Ok(builder.layers)
}
