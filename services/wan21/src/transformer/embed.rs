//! Embedders of timestep, prompt and image.

use videosdgx_tensor::{Device, Kind, LayerNorm, Linear, Tensor, TensorError, Weights, timestep_waves};

use super::TransformerConfig;

/// Epsilon of the image embedder's norms: the class's default in the reference, not the configuration's.
const IMAGE_EPS: f64 = 1e-5;

/// From the timestep to modulations; in f32 up to `temb`, as in the reference.
pub(super) struct TimeEmbedder {
    first: Linear,
    second: Linear,
    projection: Linear,
    channels: i64,
    device: Device,
    kind: Kind,
}

/// Embedding of a timestep.
pub(super) struct TimeEmbedding {
    /// For the output: `[width]` f32, rounded to the compute type.
    pub(super) embedding: Tensor,
    /// For the blocks: `[6, width]` f32, rounded to the compute type.
    pub(super) modulation: Tensor,
}

impl TimeEmbedder {
    pub(super) fn load(weights: &Weights, config: &TransformerConfig) -> Result<Self, TensorError> {
        let (width, inputs) = (config.width(), config.freq_dim);
        let weights = weights.unquantized();
        let precise = weights.at("time_embedder").with_kind(Kind::Float);
        Ok(Self {
            first: precise.linear("linear_1", inputs, width, true)?,
            second: precise.linear("linear_2", width, width, true)?,
            projection: weights.linear("time_proj", width, 6 * width, true)?,
            channels: inputs,
            device: weights.device(),
            kind: weights.kind(),
        })
    }

    pub(super) fn forward(&self, timestep: f64) -> TimeEmbedding {
        let waves = timestep_waves(&[timestep], self.channels, self.device);
        let embedding = self.second.forward(&self.first.forward(&waves).silu()).to_kind(self.kind);
        let modulation = self.projection.forward(&embedding.silu()).to_kind(Kind::Float).view([6, -1]);
        TimeEmbedding { embedding: embedding.to_kind(Kind::Float).squeeze_dim(0), modulation }
    }
}

/// Projects text embeddings to the hidden size.
pub(super) struct TextEmbedder {
    first: Linear,
    second: Linear,
}

impl TextEmbedder {
    pub(super) fn load(weights: &Weights, config: &TransformerConfig) -> Result<Self, TensorError> {
        let weights = weights.at("text_embedder").unquantized();
        Ok(Self {
            first: weights.linear("linear_1", config.text_dim, config.width(), true)?,
            second: weights.linear("linear_2", config.width(), config.width(), true)?,
        })
    }

    /// `[…, text_dim]` → `[…, width]`.
    pub(super) fn forward(&self, text: &Tensor) -> Tensor {
        self.second.forward(&self.first.forward(text).gelu_("tanh"))
    }
}

/// Projects CLIP's image embeddings to the hidden size.
pub(super) struct ImageEmbedder {
    before: LayerNorm,
    first: Linear,
    second: Linear,
    after: LayerNorm,
}

impl ImageEmbedder {
    pub(super) fn load(weights: &Weights, inputs: i64, width: i64) -> Result<Self, TensorError> {
        let weights = weights.at("image_embedder").unquantized();
        Ok(Self {
            before: LayerNorm::load(&weights.at("norm1"), inputs, IMAGE_EPS)?,
            first: weights.linear("ff.net.0.proj", inputs, inputs, true)?,
            second: weights.linear("ff.net.2", inputs, width, true)?,
            after: LayerNorm::load(&weights.at("norm2"), width, IMAGE_EPS)?,
        })
    }

    /// `[1, tokens, image_dim]` → `[1, tokens, width]`.
    pub(super) fn forward(&self, image: &Tensor) -> Tensor {
        let hidden = self.first.forward(&self.before.forward(image)).gelu_("none");
        self.after.forward(&self.second.forward(&hidden))
    }
}
