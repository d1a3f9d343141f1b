//! The complete vision tower.

use tch::{Kind, Tensor};
use videosdgx_decoder_api::{DecoderError, ImageInput};
use videosdgx_tensor::{Linear, TensorError, Weights};

use super::VisionConfig;
use super::block::Block;
use super::grid::{Interpolation, places};
use super::merger::{Merger, Normalized};
use super::rotary::Rotary;

/// A loaded vision tower.
pub struct VisionTower {
    config: VisionConfig,
    embed: Linear,
    /// `[side², hidden]` in the compute type.
    table: Tensor,
    blocks: Vec<Block>,
    merger: Merger,
    /// With the index of the block after which each is applied.
    deepstack: Vec<(usize, Merger)>,
    kind: Kind,
}

/// The features of pictures for the text layers: one row for each placeholder token, one picture after another.
#[derive(Debug)]
pub struct Features {
    /// `[tokens, out_hidden]` in the compute type: replace the embeddings of the placeholders.
    pub merged: Tensor,
    /// `[tokens, out_hidden]` each: added after text layers 0, 1, 2, …
    pub deepstack: Vec<Tensor>,
}

impl Features {
    /// Rows `start..start + length`.
    #[must_use]
    pub fn rows(&self, start: i64, length: i64) -> Self {
        Self {
            merged: self.merged.narrow(0, start, length),
            deepstack: self.deepstack.iter().map(|features| features.narrow(0, start, length)).collect(),
        }
    }

    /// Bytes of the features in memory.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let parts = self.deepstack.iter().chain(std::iter::once(&self.merged));
        parts.map(|part| (part.numel() * part.kind().elt_size_in_bytes()) as u64).sum()
    }
}

impl VisionTower {
    /// Loads the tower from `weights` (at `model.visual` in a published checkpoint).
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn load(weights: &Weights, config: &VisionConfig) -> Result<Self, TensorError> {
        let weights = weights.unquantized();
        let patch = [config.hidden, config.channels, config.temporal_patch, config.patch, config.patch];
        let embed = weights.at("patch_embed");
        let embed = Linear::dense(
            embed.tensor("proj.weight", &patch)?.f_view([config.hidden, config.patch_values()])?,
            Some(embed.tensor("proj.bias", &[config.hidden])?),
        );
        let table_shape = [config.table_side * config.table_side, config.hidden];
        let deepstack = config.deepstack.iter().enumerate().map(|(index, &block)| {
            let weights = weights.at("deepstack_merger_list").at(index);
            Ok((block as usize, Merger::load(&weights, config, Normalized::Blocks)?))
        });
        Ok(Self {
            embed,
            table: weights.tensor("pos_embed.weight", &table_shape)?,
            blocks: (0..config.depth)
                .map(|index| Block::load(&weights.at("blocks").at(index), config))
                .collect::<Result<_, _>>()?,
            merger: Merger::load(&weights.at("merger"), config, Normalized::Patches)?,
            deepstack: deepstack.collect::<Result<_, TensorError>>()?,
            kind: weights.kind(),
            config: config.clone(),
        })
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &VisionConfig {
        &self.config
    }

    /// Features of `images`, computed together. Call inside [`videosdgx_tensor::catch_libtorch_errors`].
    ///
    /// # Errors
    /// [`DecoderError::Failed`] for a picture that was preprocessed for another tower.
    pub fn encode(&self, images: &[&ImageInput]) -> Result<Features, DecoderError> {
        let (values, merge) = (self.config.patch_values() as usize, self.config.merge as usize);
        for image in images {
            let [frames, rows, columns] = image.grid;
            let patches = frames.checked_mul(rows).and_then(|count| count.checked_mul(columns));
            let fits = patches.is_some_and(|patches| {
                patches > 0
                    && patches.checked_mul(values) == Some(image.patches.len())
                    && rows % merge == 0
                    && columns % merge == 0
                    && image.tokens == patches / (merge * merge)
            });
            if !fits {
                let reason = format!("a picture of {:?} patches does not fit the vision tower", image.grid);
                return Err(DecoderError::Failed(reason));
            }
        }
        let parts: Vec<Tensor> = images
            .iter()
            .map(|image| {
                Tensor::from_slice(&image.patches).view([-1, values as i64]).to_device(self.table.device())
            })
            .collect();
        let grids: Vec<[usize; 3]> = images.iter().map(|image| image.grid).collect();
        Ok(self.forward(&Tensor::cat(&parts, 0), &grids))
    }

    /// `patches`: `[t · h · w of all pictures, channels · temporal patch · patch²]` in merge-block order, any float
    /// type; `grids`: t, h and w of each picture, h and w multiples of the merge size.
    pub fn forward(&self, patches: &Tensor, grids: &[[usize; 3]]) -> Features {
        let (merge, side) = (self.config.merge as usize, self.config.table_side as usize);
        let mut interpolation = Interpolation { indices: Vec::new(), weights: Vec::new() };
        let (mut all_places, mut frames) = (Vec::new(), Vec::new());
        for &[time, rows, columns] in grids {
            for _ in 0..time {
                interpolation.push(rows, columns, merge, side);
                all_places.extend(places(rows, columns, merge));
                frames.push((rows * columns) as i64);
            }
        }
        let rotary = Rotary::new(&all_places, self.config.head(), self.config.theta, patches.device());
        let embedded = self.embed.forward(&patches.to_kind(self.kind));
        let mut hidden = embedded + self.learned_positions(&interpolation);
        let mut features = Vec::with_capacity(self.deepstack.len());
        let mut mergers = self.deepstack.iter().peekable();
        for (index, block) in self.blocks.iter().enumerate() {
            hidden = block.forward(&hidden, &rotary, &frames);
            if let Some((_, merger)) = mergers.next_if(|(after, _)| *after == index) {
                features.push(merger.forward(&hidden));
            }
        }
        Features { merged: self.merger.forward(&hidden), deepstack: features }
    }

    /// `[patches, hidden]` in the compute type.
    fn learned_positions(&self, interpolation: &Interpolation) -> Tensor {
        let device = self.table.device();
        let weights = Tensor::from_slice(&interpolation.weights).view([-1, 4, 1]).to_device(device);
        let indices = Tensor::from_slice(&interpolation.indices).view([-1, 4]).to_device(device);
        let corner = |corner: i64| {
            let rows = self.table.index_select(0, &indices.select(1, corner)).to_kind(Kind::Float);
            rows * weights.select(1, corner)
        };
        (corner(0) + corner(1) + corner(2) + corner(3)).to_kind(self.kind)
    }
}
