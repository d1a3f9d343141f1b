//! The Wan 2.1 diffusion transformer, text to video and image to video
//! (`WanTransformer3DModel` of diffusers 0.42; Wan Team 2025, arXiv 2503.20314).

mod attention;
mod block;
mod config;
mod context;
mod embed;
mod rope;

use videosdgx_tensor::{Kind, LayerNorm, Linear, Rope, RowModulation, Tensor, TensorError, Weights};

use block::{Block, Modulation};
pub use config::TransformerConfig;
pub use context::Context;
use embed::{ImageEmbedder, TextEmbedder, TimeEmbedder};

/// The loaded transformer.
pub struct WanTransformer {
    config: TransformerConfig,
    /// The patch embedding as a linear over unfolded patches, `channels · patch` → `width`.
    patch: Linear,
    time: TimeEmbedder,
    text: TextEmbedder,
    image: Option<ImageEmbedder>,
    blocks: Vec<Block>,
    /// `[blocks, 6, width]` f32; 1 is already added to the scales.
    tables: Tensor,
    norm: LayerNorm,
    output: Linear,
    /// `[2, width]` f32: shift, 1 + scale.
    output_table: Tensor,
    kind: Kind,
    resident_bytes: u64,
}

impl WanTransformer {
    /// Loads the transformer; the linears of the blocks are in the weights' quantised format, the rest is not quantised.
    ///
    /// # Errors
    /// `Invalid` naming the file when the configuration or a tensor is not supported; `OutOfMemory`.
    pub fn load(weights: &Weights, config: TransformerConfig) -> Result<Self, TensorError> {
        config.check().map_err(|reason| {
            videosdgx_tensor::CheckpointError::invalid(
                weights.checkpoint().folder().join("config.json"),
                reason,
            )
        })?;
        let before = weights.resident_bytes();
        let width = config.width();
        let embedder = weights.at("condition_embedder");
        let mut blocks = Vec::new();
        let mut tables = Vec::new();
        for index in 0..config.num_layers {
            let weights = weights.at("blocks").at(index);
            blocks.push(Block::load(&weights, &config)?);
            tables.push(weights.tensor_as("scale_shift_table", &[1, 6, width], Kind::Float)?);
        }
        let tables = Tensor::f_cat(&tables, 0)?;
        for scale in [1, 4] {
            let _ = tables.select(1, scale).f_add_scalar_(1.0)?;
        }
        let output_table =
            weights.tensor_as("scale_shift_table", &[1, 2, width], Kind::Float)?.squeeze_dim(0);
        let _ = output_table.select(0, 1).f_add_scalar_(1.0)?;
        let [frames, rows, columns] = config.patch_size;
        let patch_weight = weights
            .tensor("patch_embedding.weight", &[width, config.in_channels, frames, rows, columns])?
            .f_flatten(1, -1)?;
        let outputs = config.outputs() * config.patch_elements();
        Ok(Self {
            patch: Linear::dense(patch_weight, Some(weights.tensor("patch_embedding.bias", &[width])?)),
            time: TimeEmbedder::load(&embedder, &config)?,
            text: TextEmbedder::load(&embedder, &config)?,
            image: config
                .image_dim
                .map(|inputs| ImageEmbedder::load(&embedder, inputs, width))
                .transpose()?,
            blocks,
            tables,
            norm: LayerNorm::without_affine(width, config.eps),
            output: weights.unquantized().linear("proj_out", width, outputs, true)?,
            output_table,
            kind: weights.kind(),
            resident_bytes: weights.resident_bytes() - before,
            config,
        })
    }

    /// The configuration it was loaded with.
    pub fn config(&self) -> &TransformerConfig {
        &self.config
    }

    /// The compute type.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Bytes of the weights in memory.
    pub fn resident_bytes(&self) -> u64 {
        self.resident_bytes
    }

    /// Rotary angles for latents of `[frames, rows, columns]`; compute them once per video.
    pub fn rope(&self, latent: [i64; 3]) -> Rope {
        let patch = self.config.patch_size;
        rope::angles(
            &self.config,
            std::array::from_fn(|axis| latent[axis] / patch[axis]),
            self.tables.device(),
        )
    }

    /// Predicts the velocity of the flow.
    ///
    /// `latents`: `[1, in_channels, frames, rows, columns]`, in any floating type; `timestep` within 0 to 1000 →
    /// `[prompts of the context, out_channels, frames, rows, columns]` in the compute type.
    pub fn forward(&self, latents: &Tensor, timestep: f64, context: &Context, rope: &Rope) -> Tensor {
        let size = latents.size();
        let time = self.time.forward(timestep);
        let modulations = &self.tables + &time.modulation;
        let mut hidden = self.patch.forward(&self.patchify(latents));
        for (index, block) in self.blocks.iter().enumerate() {
            let modulation = Modulation::new(&modulations.select(0, index as i64));
            hidden = block.attend_self(hidden, &modulation, rope);
            if index == 0 && context.prompts() > 1 {
                // Nothing so far depends on the prompts, so it was computed once for all of them.
                hidden = hidden.repeat([context.prompts(), 1, 1]);
            }
            hidden = block.attend_cross_and_feed(hidden, &modulation, context.memory(index), context.mask());
        }
        let table = &self.output_table + &time.embedding;
        let (one_plus_scale, shift) = (table.select(0, 1), table.select(0, 0));
        let hidden = self.norm.modulated(&hidden, RowModulation::new(&one_plus_scale, &shift, None));
        self.unpatchify(&self.output.forward(&hidden), &size)
    }

    /// `[1, channels, frames, rows, columns]` → `[1, tokens, channels · patch]`.
    fn patchify(&self, latents: &Tensor) -> Tensor {
        let size = latents.size();
        let [t, h, w] = self.config.patch_size;
        let (channels, frames, rows, columns) = (size[1], size[2] / t, size[3] / h, size[4] / w);
        latents
            .to_kind(self.kind)
            .reshape([1, channels, frames, t, rows, h, columns, w])
            .permute([0, 2, 4, 6, 1, 3, 5, 7])
            .reshape([1, frames * rows * columns, channels * t * h * w])
    }

    /// `[batch, tokens, patch · channels]` → `[batch, channels, frames, rows, columns]` of `size`.
    fn unpatchify(&self, tokens: &Tensor, size: &[i64]) -> Tensor {
        let [t, h, w] = self.config.patch_size;
        let (batch, outputs) = (tokens.size()[0], self.config.outputs());
        let (frames, rows, columns) = (size[2], size[3], size[4]);
        tokens
            .reshape([batch, frames / t, rows / h, columns / w, t, h, w, outputs])
            .permute([0, 7, 1, 4, 2, 5, 3, 6])
            .reshape([batch, outputs, frames, rows, columns])
    }
}
