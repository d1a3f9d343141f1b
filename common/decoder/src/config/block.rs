//! Where the blocks of a family differ from Llama's, and layers with a sliding window.

use super::RopeConfig;

/// Where the blocks of a family differ from Llama's; the default is Llama's.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockConfig {
    /// Activation of the dense feed-forward units.
    pub activation: Activation,
    /// Whether the outputs of attention and feed-forward are normalised before they are added to the residual stream.
    pub output_norms: bool,
    /// Whether the weights of norms are stored as differences from 1.
    pub centred_norms: bool,
    /// Factor of the token embeddings, rounded to the compute type; `None`: 1.
    pub embedding_scale: Option<f64>,
    /// Bound of the logits: `cap · tanh(logits / cap)`; `None`: no bound.
    pub logit_cap: Option<f64>,
}

/// The activation of a gated feed-forward unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activation {
    /// SiLU.
    #[default]
    Silu,
    /// GELU in its approximation by tanh.
    GeluTanh,
}

/// Layers whose tokens attend to the newest tokens only.
#[derive(Debug, Clone, PartialEq)]
pub struct SlidingConfig {
    /// Number of tokens that a token attends to, up to and including itself.
    pub window: usize,
    /// Rotary positions in these layers.
    pub rope: RopeConfig,
    /// Whether a layer is one of them; one value for each layer.
    pub layers: Vec<bool>,
}
