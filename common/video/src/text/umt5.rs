//! The encoder of UMT5 (Chung et al. 2023), as transformers' `UMT5EncoderModel` computes it.

use serde::Deserialize;
use videosdgx_tensor::{
    CheckpointError, Device, Kind, Linear, RmsNorm, Tensor, TensorError, Weights, attention,
    catch_libtorch_errors,
};

/// `text_encoder/config.json`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Umt5Config {
    /// Tokens in the vocabulary.
    pub vocab_size: i64,
    /// Hidden size.
    pub d_model: i64,
    /// Size of a head; `d_kv · num_heads` may differ from `d_model`.
    pub d_kv: i64,
    /// Inner size of the feed-forward part.
    pub d_ff: i64,
    /// Number of blocks.
    pub num_layers: i64,
    /// Number of attention heads.
    pub num_heads: i64,
    /// Buckets of relative positions, half of them for each direction.
    #[serde(default = "Umt5Config::buckets")]
    pub relative_attention_num_buckets: i64,
    /// Distance from which all positions share the last bucket.
    #[serde(default = "Umt5Config::distance")]
    pub relative_attention_max_distance: i64,
    /// Epsilon of the norms.
    #[serde(default = "Umt5Config::eps")]
    pub layer_norm_epsilon: f64,
    /// Activation; only `gated-gelu` is supported.
    #[serde(default = "Umt5Config::gated_gelu")]
    pub feed_forward_proj: String,
}

impl Umt5Config {
    fn buckets() -> i64 {
        32
    }
    fn distance() -> i64 {
        128
    }
    fn eps() -> f64 {
        1e-6
    }
    fn gated_gelu() -> String {
        "gated-gelu".to_owned()
    }

    fn check(&self) -> Result<(), String> {
        let sizes = [
            ("vocab_size", self.vocab_size, 1 << 24),
            ("d_model", self.d_model, 1 << 16),
            ("d_kv", self.d_kv, 1 << 12),
            ("d_ff", self.d_ff, 1 << 18),
            ("num_layers", self.num_layers, 1 << 10),
            ("num_heads", self.num_heads, 1 << 12),
            ("relative_attention_num_buckets", self.relative_attention_num_buckets, 1 << 12),
            ("relative_attention_max_distance", self.relative_attention_max_distance, 1 << 20),
        ];
        for (name, size, limit) in sizes {
            if !(1..=limit).contains(&size) {
                return Err(format!("{name} is {size}, not within 1 to {limit}"));
            }
        }
        if self.relative_attention_num_buckets < 4
            || self.relative_attention_max_distance <= self.relative_attention_num_buckets / 4
        {
            return Err(
                "relative_attention_max_distance must be more than a quarter of the buckets".to_owned()
            );
        }
        if self.feed_forward_proj != "gated-gelu" {
            return Err(format!(
                "feed_forward_proj {:?} is not supported; use gated-gelu",
                self.feed_forward_proj
            ));
        }
        Ok(())
    }
}

/// The loaded encoder. The token embeddings (2 GB in UMT5-XXL) stay on the disk: a prompt needs few rows.
pub struct Umt5Encoder {
    config: Umt5Config,
    weights: Weights,
    embedding: &'static str,
    blocks: Vec<Block>,
    norm: RmsNorm,
    resident_bytes: u64,
}

struct Block {
    attention_norm: RmsNorm,
    /// Query, key and value, concatenated.
    projection: Linear,
    output: Linear,
    /// `[buckets, heads]` f32.
    position_bias: Tensor,
    feed_norm: RmsNorm,
    /// Gate and value, concatenated.
    gate_and_value: Linear,
    down: Linear,
}

impl Umt5Encoder {
    /// Loads the encoder; its linears are in the weights' quantised format.
    ///
    /// # Errors
    /// `Invalid` naming the file when the configuration or a tensor is not supported; `OutOfMemory`.
    pub fn load(weights: &Weights, config: Umt5Config) -> Result<Self, TensorError> {
        config.check().map_err(|reason| {
            CheckpointError::invalid(weights.checkpoint().folder().join("config.json"), reason)
        })?;
        let before = weights.resident_bytes();
        // Tied embeddings are stored once, under either name.
        let names = ["shared.weight", "encoder.embed_tokens.weight"];
        let embedding = if weights.contains(names[0]) { names[0] } else { names[1] };
        for name in names {
            if name == embedding || weights.contains(name) {
                weights.require(name, &[config.vocab_size, config.d_model])?;
            }
        }
        let encoder = weights.at("encoder");
        let blocks = (0..config.num_layers)
            .map(|index| Block::load(&encoder.at("block").at(index).at("layer"), &config));
        let blocks = blocks.collect::<Result<_, _>>()?;
        let norm = RmsNorm::load(&encoder.at("final_layer_norm"), config.d_model, config.layer_norm_epsilon)?;
        let resident_bytes = weights.resident_bytes() - before;
        Ok(Self { weights: weights.clone(), embedding, blocks, norm, resident_bytes, config })
    }

    /// Size of an embedding.
    pub fn width(&self) -> i64 {
        self.config.d_model
    }

    /// Bytes of the weights in memory.
    pub fn resident_bytes(&self) -> u64 {
        self.resident_bytes
    }

    /// `ids` (a prompt without padding) → its last hidden states `[ids, d_model]` in the compute type.
    ///
    /// Masked padding would not change the other states, so it is omitted.
    ///
    /// # Errors
    /// `Invalid` for an id outside the vocabulary; `OutOfMemory`.
    pub fn forward(&self, ids: &[i64]) -> Result<Tensor, TensorError> {
        let embedded = self.weights.rows(self.embedding, ids)?;
        catch_libtorch_errors(|| {
            let length = ids.len() as i64;
            let buckets = self.buckets(length);
            let mut hidden = embedded.unsqueeze(0);
            for block in &self.blocks {
                // [heads, length, length]
                let bias = block
                    .position_bias
                    .index_select(0, &buckets)
                    .view([length, length, -1])
                    .permute([2, 0, 1]);
                hidden = block.forward(hidden, &bias.unsqueeze(0).contiguous(), self.config.num_heads);
            }
            Ok(self.norm.forward(&hidden).squeeze_dim(0))
        })
    }

    /// Bucket of each key's distance from each query, `[length · length]`: half of the buckets are for keys after the
    /// query; of each half, half are for single distances and the others grow logarithmically.
    fn buckets(&self, length: i64) -> Tensor {
        let half = self.config.relative_attention_num_buckets / 2;
        let exact = half / 2;
        let options = (Kind::Int64, Device::Cpu);
        let position = Tensor::arange(length, options);
        let distance = position.unsqueeze(0) - position.unsqueeze(1);
        let after = distance.gt(0).to_kind(Kind::Int64) * half;
        let distance = distance.abs();
        // In f32 and in this order, so that the bucket boundaries equal the reference's.
        let span = (self.config.relative_attention_max_distance as f64 / exact as f64).ln();
        let logarithmic = (distance.to_kind(Kind::Float) / exact as f64).log() / span * (half - exact) as f64;
        let far = (logarithmic.clamp_min(0.0).to_kind(Kind::Int64) + exact).clamp_max(half - 1);
        let bucket = after + distance.where_self(&distance.lt(exact), &far);
        bucket.flatten(0, -1).to_device(self.weights.device())
    }
}

impl Block {
    fn load(weights: &Weights, config: &Umt5Config) -> Result<Self, TensorError> {
        let (attention, feed) = (weights.at("0"), weights.at("1"));
        let (width, inner) = (config.d_model, config.d_kv * config.num_heads);
        let projections = attention.at("SelfAttention");
        let dense = feed.at("DenseReluDense");
        Ok(Self {
            attention_norm: RmsNorm::load(&attention.at("layer_norm"), width, config.layer_norm_epsilon)?,
            projection: projections.fused_linear(
                &[("q", inner), ("k", inner), ("v", inner)],
                width,
                false,
            )?,
            output: projections.linear("o", inner, width, false)?,
            position_bias: projections.tensor_as(
                "relative_attention_bias.weight",
                &[config.relative_attention_num_buckets, config.num_heads],
                Kind::Float,
            )?,
            feed_norm: RmsNorm::load(&feed.at("layer_norm"), width, config.layer_norm_epsilon)?,
            gate_and_value: dense.fused_linear(
                &[("wi_0", config.d_ff), ("wi_1", config.d_ff)],
                width,
                false,
            )?,
            down: dense.linear("wo", config.d_ff, width, false)?,
        })
    }

    /// `[1, length, d_model]` → the same; `bias`: `[1, heads, length, length]` f32.
    fn forward(&self, hidden: Tensor, bias: &Tensor, heads: i64) -> Tensor {
        let projected = self.projection.forward(&self.attention_norm.forward(&hidden));
        let parts = projected.unflatten(-1, [3, heads, -1]).permute([2, 0, 3, 1, 4]);
        // T5 does not scale the scores.
        let (query, key, value) = (parts.select(0, 0), parts.select(0, 1), parts.select(0, 2));
        let mixed = attention(&query, &key, &value, Some(bias), Some(1.0));
        let hidden = hidden + self.output.forward(&mixed.transpose(1, 2).flatten(2, 3));
        let inner = self.gate_and_value.forward(&self.feed_norm.forward(&hidden)).chunk(2, -1);
        let gated = inner[0].gelu("tanh") * &inner[1];
        hidden + self.down.forward(&gated)
    }
}
