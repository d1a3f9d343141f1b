//! The layers of a decoder with everything that they share, without token embedding and output layer.

use tch::{Kind, Tensor};
use videosdgx_tensor::{PagedSegment, TensorError, Weights};

use crate::DecoderConfig;
use crate::attention::Step;
use crate::layer::Layer;
use crate::names::Names;
use crate::norm::norm_weight;
use crate::positions::Position;
use crate::rotary::Rotary;

pub(crate) struct Stack {
    pub(crate) layers: Vec<Layer>,
    /// Weight of the norm after the last layer, `[hidden]`.
    pub(crate) norm: Tensor,
    rotary: Rotary,
    /// Of the layers with a window.
    sliding: Option<Rotary>,
}

impl Stack {
    pub(crate) fn load(weights: &Weights, config: &DecoderConfig, names: Names) -> Result<Self, TensorError> {
        let layers = (0..config.layers.len()).map(|index| Layer::load(weights, config, names, index));
        let layers = layers.collect::<Result<Vec<_>, _>>()?;
        let norm = norm_weight(&weights.at(names.final_norm()), config.hidden, &config.block)?;
        let factors = rope_factors(weights, config.rope.dim)?;
        let device = weights.device();
        Ok(Self {
            layers,
            norm,
            rotary: Rotary::new(&config.rope, factors.as_deref(), device),
            sliding: config.sliding.as_ref().map(|sliding| Rotary::new(&sliding.rope, None, device)),
        })
    }

    /// What the layers need for `segments`, whose tokens are at `positions`.
    pub(crate) fn step<'a>(&self, positions: &[Position], segments: Vec<PagedSegment<'a>>) -> Step<'a> {
        Step {
            angles: self.rotary.angles(positions),
            sliding_angles: self.sliding.as_ref().map(|rotary| rotary.angles(positions)),
            style: self.rotary.style(),
            segments,
        }
    }
}

/// Token embeddings `[rows, hidden]` in the compute type, times `scale` → the residual stream, in f32. Scale and product
/// are rounded to the compute type, as transformers does it.
pub(crate) fn scaled(embedded: &Tensor, scale: Option<f64>) -> Tensor {
    match scale {
        Some(scale) => {
            let scale = Tensor::from(scale as f32).to_kind(embedded.kind());
            (embedded * scale).to_kind(Kind::Float)
        }
        None => embedded.to_kind(Kind::Float),
    }
}

/// Divisors of the rotary frequencies, if a GGUF file has them.
fn rope_factors(weights: &Weights, dim: i64) -> Result<Option<Vec<f32>>, TensorError> {
    const NAME: &str = "rope_freqs.weight";
    if !weights.contains(NAME) {
        return Ok(None);
    }
    let factors: Tensor = weights.tensor_as(NAME, &[dim / 2], Kind::Float)?;
    Ok(Some(Vec::try_from(factors.to_device(tch::Device::Cpu))?))
}
