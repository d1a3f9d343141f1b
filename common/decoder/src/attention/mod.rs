//! Attention over the paged cache, grouped or latent.

mod grouped;
mod latent;

use tch::Tensor;
use videosdgx_tensor::{
    AttentionSpan, KvCache, KvCacheShape, PagedSegment, RotaryAngles, RotaryStyle, TensorError, ValueStorage,
    Weights,
};

use crate::names::Names;
use crate::{Attention as Config, DecoderConfig};
use grouped::Grouped;
use latent::Latent;

/// Data of a step that all layers share.
pub(crate) struct Step<'a> {
    /// Rotations, one row for each token.
    pub(crate) angles: RotaryAngles,
    /// Those of the layers with a window, where they are others.
    pub(crate) sliding_angles: Option<RotaryAngles>,
    /// Which elements of a head are rotated together.
    pub(crate) style: RotaryStyle,
    /// The segments of the step.
    pub(crate) segments: Vec<PagedSegment<'a>>,
}

impl Step<'_> {
    /// The rotations in layers that attend to `span`.
    fn angles(&self, span: AttentionSpan) -> &RotaryAngles {
        match (span, &self.sliding_angles) {
            (AttentionSpan::Window(_), Some(angles)) => angles,
            _ => &self.angles,
        }
    }
}

/// The attention of one layer.
pub(crate) enum Attention {
    Grouped(Grouped),
    Latent(Latent),
}

impl Attention {
    /// Loads the attention of layer `index`, which `weights` points to.
    pub(crate) fn load(
        weights: &Weights,
        config: &DecoderConfig,
        names: Names,
        index: usize,
    ) -> Result<Self, TensorError> {
        let window = config.sliding.as_ref().filter(|sliding| sliding.layers.get(index) == Some(&true));
        let span = window.map_or(AttentionSpan::All, |sliding| AttentionSpan::Window(sliding.window));
        Ok(match &config.attention {
            Config::Grouped(grouped) => Self::Grouped(Grouped::load(weights, grouped, config, names, span)?),
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
