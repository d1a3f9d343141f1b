//! A network from a mel spectrogram to a waveform (HiFi-GAN, Kong et al. 2020; BigVGAN, Lee et al. 2023), over
//! `[time, channels]`.

use tch::{Kind, Tensor};
use videosdgx_tensor::{TensorError, Weights};

use super::conv::{Conv1d, UpsamplingConv};
use super::snake::{AntiAliasedSnake, Snake};
use super::vocoder_config::{FinalActivation, GeneratorActivation, GeneratorConfig};

enum Activation {
    /// The slope below zero, `[1]`.
    LeakyRelu(Tensor),
    Snake(Snake),
    AntiAliased(AntiAliasedSnake),
}

impl Activation {
    /// The activation of a residual block.
    fn load(weights: &Weights, config: &GeneratorConfig, channels: i64) -> Result<Self, TensorError> {
        let beta = config.act_fn == GeneratorActivation::SnakeBeta;
        Ok(match (config.act_fn, config.antialias) {
            (GeneratorActivation::LeakyRelu, _) => Self::leaky(weights, config.leaky_relu_negative_slope)?,
            (_, false) => Self::Snake(Snake::load(weights, channels, beta)?),
            (_, true) => Self::AntiAliased(AntiAliasedSnake::load(weights, channels, beta)?),
        })
    }

    /// The activation before the last convolution: the same kind, but always with β and at twice the rate, or with a slope
    /// of 0.01.
    fn load_last(weights: &Weights, config: &GeneratorConfig, channels: i64) -> Result<Self, TensorError> {
        Ok(match config.act_fn {
            GeneratorActivation::LeakyRelu => Self::leaky(weights, 0.01)?,
            _ => Self::AntiAliased(AntiAliasedSnake::load(&weights.at("act_out"), channels, true)?),
        })
    }

    fn leaky(weights: &Weights, slope: f64) -> Result<Self, TensorError> {
        Ok(Self::LeakyRelu(Tensor::f_full([1], slope, (Kind::Float, weights.device()))?))
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        match self {
            Self::LeakyRelu(slope) => x.prelu(slope),
            Self::Snake(snake) => snake.forward(x),
            Self::AntiAliased(snake) => snake.forward(x),
        }
    }
}

/// Activation and dilated convolution, activation and convolution, with a residual connection around.
struct ResidualLayer {
    act1: Activation,
    conv1: Conv1d,
    act2: Activation,
    conv2: Conv1d,
}

struct ResidualBlock(Vec<ResidualLayer>);

impl ResidualBlock {
    fn load(
        weights: &Weights,
        config: &GeneratorConfig,
        channels: i64,
        which: usize,
    ) -> Result<Self, TensorError> {
        let kernel = config.resnet_kernel_sizes[which];
        let conv = |name: &str, at: usize, dilation: i64| {
            Conv1d::load(&weights.at(name).at(at), [channels; 2], kernel, dilation, true)
        };
        let act = |name: &str, at: usize| Activation::load(&weights.at(name).at(at), config, channels);
        let layer = |(at, &dilation): (usize, &i64)| {
            Ok::<_, TensorError>(ResidualLayer {
                act1: act("acts1", at)?,
                conv1: conv("convs1", at, dilation)?,
                act2: act("acts2", at)?,
                conv2: conv("convs2", at, 1)?,
            })
        };
        Ok(Self(config.resnet_dilations[which].iter().enumerate().map(layer).collect::<Result<_, _>>()?))
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        self.0.iter().fold(x.shallow_clone(), |x, layer| {
            let y = layer.conv1.forward(&layer.act1.forward(&x));
            let mut y = layer.conv2.forward(&layer.act2.forward(&y));
            y += x;
            y
        })
    }
}

struct Level {
    /// Snake vocoders have their activations inside the blocks only.
    act: Option<Activation>,
    up: UpsamplingConv,
    blocks: Vec<ResidualBlock>,
}

/// The network, computing in f32.
pub(super) struct Generator {
    conv_in: Conv1d,
    levels: Vec<Level>,
    act_out: Activation,
    conv_out: Conv1d,
    last: Option<FinalActivation>,
}

impl Generator {
    pub(super) fn load(weights: &Weights, config: &GeneratorConfig) -> Result<Self, TensorError> {
        let hidden = config.hidden_channels;
        let conv_in = Conv1d::load(&weights.at("conv_in"), [config.in_channels, hidden], 7, 1, true)?;
        let mut levels = Vec::new();
        let mut channels = hidden;
        let sizes = config.upsample_factors.iter().zip(&config.upsample_kernel_sizes);
        for (level, (&factor, &kernel)) in sizes.enumerate() {
            let outputs = channels / 2;
            let leaky = config.act_fn == GeneratorActivation::LeakyRelu;
            let act = leaky.then(|| Activation::load(weights, config, channels)).transpose()?;
            let part = weights.at("upsamplers").at(level);
            let up = UpsamplingConv::load(&part, [channels, outputs], kernel, factor)?;
            let count = config.resnet_kernel_sizes.len();
            let block = |which: usize| {
                let part = weights.at("resnets").at(level * count + which);
                ResidualBlock::load(&part, config, outputs, which)
            };
            levels.push(Level { act, up, blocks: (0..count).map(block).collect::<Result<_, _>>()? });
            channels = outputs;
        }
        let sizes = [channels, config.out_channels];
        Ok(Self {
            conv_in,
            levels,
            act_out: Activation::load_last(weights, config, channels)?,
            conv_out: Conv1d::load(&weights.at("conv_out"), sizes, 7, 1, config.final_bias)?,
            last: config.final_act_fn,
        })
    }

    /// `[t, in channels]` → `[t · samples per frame, out channels]`.
    pub(super) fn forward(&self, mel: &Tensor) -> Tensor {
        let mut x = self.conv_in.forward(mel);
        for level in &self.levels {
            if let Some(act) = &level.act {
                x = act.forward(&x);
            }
            x = level.up.forward(&x);
            let outputs = level.blocks.iter().map(|block| block.forward(&x));
            let sum = outputs.reduce(|mut sum, output| {
                sum += output;
                sum
            });
            x = sum.map_or(x, |mut sum| sum.g_div_scalar_(level.blocks.len() as f64));
        }
        x = self.act_out.forward(&x);
        x = self.conv_out.forward(&x);
        match self.last {
            Some(FinalActivation::Tanh) => x.tanh(),
            Some(FinalActivation::Clamp) => x.clamp(-1.0, 1.0),
            None => x,
        }
    }
}
