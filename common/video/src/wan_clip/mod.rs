//! Image conditioning of Wan 2.1: the second-to-last hidden state of CLIP's vision encoder (Radford et al. 2021).

mod processor;

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use videosdgx_picture::Picture;
use videosdgx_tensor::{
    Checkpoint, CheckpointError, Device, Kind, LayerNorm, Linear, Quantization, Tensor, TensorError, Weights,
    attention, catch_libtorch_errors,
};

pub use processor::ClipPreprocessor;

/// `image_encoder/config.json`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ClipVisionConfig {
    /// Hidden size.
    pub hidden_size: i64,
    /// Inner size of the feed-forward part.
    pub intermediate_size: i64,
    /// Number of layers; the last is not used.
    pub num_hidden_layers: i64,
    /// Number of attention heads.
    pub num_attention_heads: i64,
    /// Height and width of the input, in pixels.
    pub image_size: i64,
    /// Height and width of a patch, in pixels.
    pub patch_size: i64,
    /// `gelu` or `quick_gelu`.
    #[serde(default = "ClipVisionConfig::quick_gelu")]
    pub hidden_act: String,
    /// Epsilon of the norms.
    #[serde(default = "ClipVisionConfig::eps")]
    pub layer_norm_eps: f64,
}

impl ClipVisionConfig {
    fn quick_gelu() -> String {
        "quick_gelu".to_owned()
    }

    fn eps() -> f64 {
        1e-5
    }

    /// Tokens of a picture: its patches and the class token.
    pub fn tokens(&self) -> i64 {
        (self.image_size / self.patch_size) * (self.image_size / self.patch_size) + 1
    }

    fn activation(&self) -> Result<Activation, String> {
        match self.hidden_act.as_str() {
            "gelu" => Ok(Activation::Gelu),
            "quick_gelu" => Ok(Activation::QuickGelu),
            other => Err(format!("hidden_act {other:?} is not supported; use gelu or quick_gelu")),
        }
    }

    fn check(&self) -> Result<Activation, String> {
        let sizes = [
            ("hidden_size", self.hidden_size, 1 << 16),
            ("intermediate_size", self.intermediate_size, 1 << 18),
            ("num_hidden_layers", self.num_hidden_layers, 1 << 10),
            ("num_attention_heads", self.num_attention_heads, self.hidden_size),
            ("image_size", self.image_size, 4096),
            ("patch_size", self.patch_size, self.image_size),
        ];
        for (name, size, limit) in sizes {
            if !(1..=limit).contains(&size) {
                return Err(format!("{name} is {size}, not within 1 to {limit}"));
            }
        }
        if self.hidden_size % self.num_attention_heads != 0 {
            return Err("hidden_size is not a multiple of num_attention_heads".to_owned());
        }
        self.activation()
    }
}

#[derive(Debug, Clone, Copy)]
enum Activation {
    Gelu,
    QuickGelu,
}

/// The loaded encoder, without the last layer and the last norm, which image to video does not use.
pub struct ClipVision {
    config: ClipVisionConfig,
    activation: Activation,
    /// The patch embedding as a linear over unfolded patches.
    patch: Linear,
    /// `[1, 1, hidden]`.
    class: Tensor,
    /// `[1, tokens, hidden]`.
    positions: Tensor,
    norm: LayerNorm,
    layers: Vec<Layer>,
    kind: Kind,
    resident_bytes: u64,
}

struct Layer {
    attention_norm: LayerNorm,
    /// Query, key and value, concatenated.
    projection: Linear,
    output: Linear,
    feed_norm: LayerNorm,
    first: Linear,
    second: Linear,
}

impl ClipVision {
    /// Loads the encoder. Tensor names with and without the prefix `vision_model.` are accepted; both are published.
    ///
    /// # Errors
    /// `Invalid` naming the file when the configuration or a tensor is not supported; `OutOfMemory`.
    pub fn load(weights: &Weights, config: ClipVisionConfig) -> Result<Self, TensorError> {
        let activation = config.check().map_err(|reason| {
            CheckpointError::invalid(weights.checkpoint().folder().join("config.json"), reason)
        })?;
        let before = weights.resident_bytes();
        let prefixed = weights.contains("vision_model.embeddings.class_embedding");
        let model = if prefixed { weights.at("vision_model") } else { weights.clone() };
        let (width, eps) = (config.hidden_size, config.layer_norm_eps);
        let embeddings = model.at("embeddings");
        let patch = embeddings
            .tensor("patch_embedding.weight", &[width, 3, config.patch_size, config.patch_size])?
            .f_flatten(1, -1)?;
        let layers = (0..config.num_hidden_layers - 1)
            .map(|index| Layer::load(&model.at("encoder.layers").at(index), &config))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            activation,
            patch: Linear::dense(patch, None),
            class: embeddings.tensor("class_embedding", &[width])?.f_view([1, 1, width])?,
            positions: embeddings
                .tensor("position_embedding.weight", &[config.tokens(), width])?
                .f_unsqueeze(0)?,
            norm: LayerNorm::load(&model.at("pre_layrnorm"), width, eps)?,
            layers,
            kind: weights.kind(),
            resident_bytes: weights.resident_bytes() - before,
            config,
        })
    }

    /// Bytes of the weights in memory.
    pub fn resident_bytes(&self) -> u64 {
        self.resident_bytes
    }

    /// `[1, 3, image_size, image_size]`, normalised → the second-to-last hidden state `[1, tokens, hidden]`.
    ///
    /// # Errors
    /// `Libtorch` for a different size; `OutOfMemory`.
    pub fn forward(&self, pixels: &Tensor) -> Result<Tensor, TensorError> {
        catch_libtorch_errors(|| {
            let (side, patch) = (self.config.image_size / self.config.patch_size, self.config.patch_size);
            let patches = pixels
                .to_kind(self.kind)
                .to_device(self.class.device())
                .narrow(2, 0, side * patch)
                .narrow(3, 0, side * patch)
                .reshape([1, 3, side, patch, side, patch])
                .permute([0, 2, 4, 1, 3, 5])
                .reshape([1, side * side, 3 * patch * patch]);
            let tokens =
                Tensor::cat(&[self.class.shallow_clone(), self.patch.forward(&patches)], 1) + &self.positions;
            let mut hidden = self.norm.forward(&tokens);
            for layer in &self.layers {
                hidden = layer.forward(hidden, self.config.num_attention_heads, self.activation);
            }
            Ok(hidden)
        })
    }
}

impl Layer {
    fn load(weights: &Weights, config: &ClipVisionConfig) -> Result<Self, TensorError> {
        let (width, eps) = (config.hidden_size, config.layer_norm_eps);
        let attention = weights.at("self_attn");
        Ok(Self {
            attention_norm: LayerNorm::load(&weights.at("layer_norm1"), width, eps)?,
            projection: attention.fused_linear(
                &[("q_proj", width), ("k_proj", width), ("v_proj", width)],
                width,
                true,
            )?,
            output: attention.linear("out_proj", width, width, true)?,
            feed_norm: LayerNorm::load(&weights.at("layer_norm2"), width, eps)?,
            first: weights.linear("mlp.fc1", width, config.intermediate_size, true)?,
            second: weights.linear("mlp.fc2", config.intermediate_size, width, true)?,
        })
    }

    /// `[1, tokens, hidden]` → the same.
    fn forward(&self, hidden: Tensor, heads: i64, activation: Activation) -> Tensor {
        let projected = self.projection.forward(&self.attention_norm.forward(&hidden));
        let parts = projected.unflatten(-1, [3, heads, -1]).permute([2, 0, 3, 1, 4]);
        let mixed = attention(&parts.select(0, 0), &parts.select(0, 1), &parts.select(0, 2), None, None);
        let hidden = hidden + self.output.forward(&mixed.transpose(1, 2).flatten(2, 3));
        let inner = self.first.forward(&self.feed_norm.forward(&hidden));
        let inner = match activation {
            Activation::Gelu => inner.gelu("none"),
            Activation::QuickGelu => (&inner * 1.702).sigmoid() * inner,
        };
        hidden + self.second.forward(&inner)
    }
}

/// Preprocessing and vision encoder of an image-to-video checkpoint.
pub struct WanImageEncoder {
    processor: ClipPreprocessor,
    vision: ClipVision,
}

impl WanImageEncoder {
    /// Loads `image_processor/` and `image_encoder/` of a checkpoint folder, unquantised.
    ///
    /// # Errors
    /// `Missing` or `Invalid` naming the file; `OutOfMemory`.
    pub fn load(checkpoint: &Path, device: Device, kind: Kind) -> Result<Self, TensorError> {
        let processor = ClipPreprocessor::open(&checkpoint.join("image_processor"))?;
        let files = Arc::new(Checkpoint::open(checkpoint.join("image_encoder"))?);
        let config: ClipVisionConfig = files.config()?;
        if processor.side() != config.image_size {
            let reason =
                format!("crops to {} pixels, but the encoder takes {}", processor.side(), config.image_size);
            let file = checkpoint.join("image_processor").join("preprocessor_config.json");
            return Err(CheckpointError::invalid(file, reason).into());
        }
        let vision = ClipVision::load(&Weights::new(files, device, kind, Quantization::None), config)?;
        Ok(Self { processor, vision })
    }

    /// Bytes of the weights in memory.
    pub fn resident_bytes(&self) -> u64 {
        self.vision.resident_bytes()
    }

    /// A picture of any size → `[1, tokens, hidden]` in the compute type.
    ///
    /// # Errors
    /// As [`ClipVision::forward`].
    pub fn encode(&self, picture: &Picture) -> Result<Tensor, TensorError> {
        self.vision.forward(&self.processor.pixels(picture))
    }
}
