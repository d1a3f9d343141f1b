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

/// Data of a step that all layers share.
pub(crate) struct Step<'a> {
    /// Rotations, one row for each token.
    pub(crate) angles: RotaryAngles,
    /// Which elements of a head are rotated together.
    pub(crate) style: RotaryStyle,
    /// The segments of the step.
    pub(crate) segments: Vec<PagedSegment<'a>>,
}

/// The attention of one layer.
pub(crate) enum Attention {
    Grouped(Grouped),
    Latent(Latent),
}

impl Attention {
    /// Loads the attention of the layer that `weights` points to.
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

/// Shape of the KV cache of a model with this configuration.
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

/// A size of the configuration as `usize`: sizes were checked not to be negative.
pub(crate) fn size(value: i64) -> usize {
    usize::try_from(value).unwrap_or(0)
}
