//! Attention over the paged cache, grouped or latent.

mod grouped;
mod latent;

use tch::Tensor;
use videosdgx_tensor::{
    KvCache, KvCacheShape, PagedSegment, RotaryAngles, RotaryStyle, TensorError, ValueStorage, Weights,
};

use crate::names::Layout;
use crate::{Attention as Config, DecoderConfig};
use grouped::Grouped;
use latent::Latent;

/// What all layers of a step share.
pub(crate) struct Step<'a> {
    /// Rotations, one row a token.
    pub(crate) angles: RotaryAngles,
    /// Which values of a head are a pair.
    pub(crate) style: RotaryStyle,
    /// The sequences.
    pub(crate) segments: Vec<PagedSegment<'a>>,
}

/// The attention of one layer.
pub(crate) enum Attention {
    Grouped(Grouped),
    Latent(Latent),
}

impl Attention {
    /// From the place of layer `index`.
    pub(crate) fn load(
        weights: &Weights,
        config: &DecoderConfig,
        layout: Layout,
    ) -> Result<Self, TensorError> {
        Ok(match &config.attention {
            Config::Grouped(grouped) => {
                Self::Grouped(Grouped::load(weights, grouped, config.hidden, layout)?)
            }
            Config::Latent(latent) => Self::Latent(Latent::load(weights, latent, config.hidden)?),
        })
    }

    /// `[rows, hidden]`, normalised → `[rows, hidden]`; writes the rows' keys and values to the cache.
    pub(crate) fn forward(
        &self,
        input: &Tensor,
        step: &Step<'_>,
        layer: usize,
        cache: &mut KvCache,
    ) -> Tensor {
        match self {
            Self::Grouped(grouped) => grouped.forward(input, step, layer, cache),
            Self::Latent(latent) => latent.forward(input, step, layer, cache),
        }
    }
}

/// What the cache of such a model holds.
pub(crate) fn cache_shape(config: &DecoderConfig) -> KvCacheShape {
    let layers = config.layers.len();
    match &config.attention {
        Config::Grouped(grouped) => KvCacheShape {
            layers,
            heads: size(grouped.kv_heads),
            key_dim: size(grouped.head_dim),
            value: ValueStorage::Separate(size(grouped.head_dim)),
        },
        Config::Latent(latent) => KvCacheShape {
            layers,
            heads: 1,
            key_dim: size(latent.latent + latent.rope_dim),
            value: ValueStorage::KeyPrefix(size(latent.latent)),
        },
    }
}

/// A size of a configuration: bounded, never negative.
pub(crate) fn size(value: i64) -> usize {
    usize::try_from(value).unwrap_or(0)
}
