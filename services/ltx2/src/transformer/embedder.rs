//! From noise levels to the vectors that modulate activations.

use videosdgx_tensor::{Device, Kind, Linear, RowModulation, Tensor, TensorError, Weights, timestep_waves};

use super::times::Timesteps;
use crate::names::TensorList;

/// Number of sines and cosines of a timestep (fixed in the reference).
const WAVES: i64 = 256;

/// Modulation vectors of a stream's tokens.
pub(super) struct Vectors {
    /// `[distinct timesteps, width]` f32 each.
    vectors: Vec<Tensor>,
    /// Int64 `[tokens]`: which of the rows each token takes.
    rows: Option<Tensor>,
}

impl Vectors {
    /// The vectors `table` `[vectors, 1, width]` of a block, added to those of the noise level
    /// `[vectors, distinct timesteps, width]`, both f32.
    pub(super) fn new(table: &Tensor, noise: &Tensor, rows: Option<&Tensor>) -> Self {
        Self { vectors: (table + noise).unbind(0), rows: rows.map(Tensor::shallow_clone) }
    }

    /// Scale and shift by the vectors of these indices; 1 was added to the scale.
    pub(super) fn modulation(&self, one_plus_scale: usize, shift: usize) -> RowModulation<'_> {
        RowModulation::new(&self.vectors[one_plus_scale], &self.vectors[shift], self.rows())
    }

    pub(super) fn gate(&self, index: usize) -> &Tensor {
        &self.vectors[index]
    }

    pub(super) fn rows(&self) -> Option<&Tensor> {
        self.rows.as_ref()
    }
}

/// Computes modulation vectors of timesteps (`LTX2AdaLayerNormSingle` of diffusers).
pub(super) struct Embedder {
    first: Linear,
    second: Linear,
    projection: Linear,
    vectors: i64,
    kind: Kind,
    device: Device,
}

/// Embedding of timesteps.
pub(super) struct Embedded {
    /// `[vectors, distinct timesteps, width]` f32.
    pub(super) vectors: Tensor,
    /// `[distinct timesteps, width]` f32.
    pub(super) embedding: Tensor,
    /// Int64 `[tokens]`.
    pub(super) rows: Option<Tensor>,
}

impl Embedder {
    pub(super) fn load(weights: &Weights, width: i64, vectors: i64) -> Result<Self, TensorError> {
        let weights = weights.unquantized();
        let embedder = weights.at("emb.timestep_embedder");
        Ok(Self {
            first: embedder.linear("linear_1", WAVES, width, true)?,
            second: embedder.linear("linear_2", width, width, true)?,
            projection: weights.linear("linear", width, vectors * width, true)?,
            vectors,
            kind: weights.kind(),
            device: weights.device(),
        })
    }

    pub(super) fn tensors(list: &mut TensorList, name: &str, width: i64, vectors: i64) {
        list.within(name, |list| {
            list.linear("emb.timestep_embedder.linear_1", WAVES, width, true);
            list.linear("emb.timestep_embedder.linear_2", width, width, true);
            list.linear("linear", width, vectors * width, true);
        });
    }

    /// Vectors of `times`, each multiplied by `factor`.
    pub(super) fn forward(&self, times: &Timesteps, factor: f64) -> Embedded {
        let values: Vec<f64> = times.values.iter().map(|time| time * factor).collect();
        let waves = timestep_waves(&values, WAVES, self.device).to_kind(self.kind);
        let embedding = self.second.forward(&self.first.forward(&waves).silu());
        let vectors = self.projection.forward(&embedding.silu()).to_kind(Kind::Float);
        Embedded {
            vectors: vectors.view([values.len() as i64, self.vectors, -1]).transpose(0, 1).contiguous(),
            embedding: embedding.to_kind(Kind::Float),
            rows: times.rows.as_ref().map(Tensor::shallow_clone),
        }
    }
}

/// A table `[vectors, width]` in f32 as `[vectors, 1, width]`, with 1 added to its `scales`.
pub(super) fn load_table(
    weights: &Weights,
    name: &str,
    shape: [i64; 2],
    scales: &[i64],
) -> Result<Tensor, TensorError> {
    let table = weights.tensor_as(name, &shape, Kind::Float)?;
    for &scale in scales {
        let _ = table.select(0, scale).f_add_scalar_(1.0)?;
    }
    Ok(table.f_unsqueeze(1)?)
}
