//! A loaded model: what the engine calls.

use tch::{Device, Kind, Tensor};
use videosdgx_decoder_api::{Decoder, DecoderError, DecoderShape, Logits, Segment};
use videosdgx_tensor::{
    Embedding, KvCache, Linear, PagedSegment, TensorError, add_rms_norm, catch_libtorch_errors, rms_norm,
};

use crate::DecoderConfig;
use crate::attention::Step;
use crate::batch::{Batch, Limits};
use crate::layer::Layer;
use crate::pictures::Pictures;
use crate::rotary::Rotary;

/// Rows that go through the head together on the CPU.
const HEAD_ROWS: i64 = 16;

/// A decoder of any family with its cache; [`crate::Source::load`] makes one.
pub struct TextModel {
    pub(crate) config: DecoderConfig,
    pub(crate) device: Device,
    /// What is computed in.
    pub(crate) kind: Kind,
    pub(crate) embedding: Embedding,
    pub(crate) layers: Vec<Layer>,
    /// Weight of the norm before the head, `[hidden]`.
    pub(crate) norm: Tensor,
    pub(crate) head: Linear,
    pub(crate) rotary: Rotary,
    pub(crate) cache: KvCache,
    pub(crate) pictures: Option<Pictures>,
    pub(crate) unused: Vec<String>,
    pub(crate) weight_bytes: u64,
}

impl TextModel {
    /// What it computes.
    #[must_use]
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// Tensors of the checkpoint that were neither used nor known to be superfluous, sorted.
    #[must_use]
    pub fn unused(&self) -> &[String] {
        &self.unused
    }

    /// Bytes of all weights in memory; the cache is not in it.
    #[must_use]
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// `[wanted rows, vocab]` f32 on the host, or none when none are wanted.
    fn forward(&mut self, segments: &[Segment<'_>]) -> Result<Logits, Failure> {
        let batch = Batch::new(segments, self.limits())?;
        let indices = |rows: &[i64]| Tensor::from_slice(rows).to_device(self.device);
        // The sum of all layers stays in f32: in bf16 each of them would round it to eight bits.
        let mut hidden = self.embedding.forward(&indices(&batch.tokens)).to_kind(Kind::Float);
        let overlay = match &mut self.pictures {
            Some(pictures) => pictures.overlay(segments, &batch, self.device)?,
            None => None,
        };
        if let Some(overlay) = &overlay {
            let _ = hidden.index_copy_(0, &overlay.rows, &overlay.features.to_kind(hidden.kind()));
        }
        let step = Step {
            angles: self.rotary.angles(&batch.positions),
            style: self.rotary.style(),
            segments: batch
                .sequences
                .iter()
                .map(|one| PagedSegment { start: one.start, len: one.rows, blocks: one.blocks })
                .collect(),
        };
        let (eps, kind) = (self.config.norm_eps, self.kind);
        let add_norm = |hidden: &mut Tensor, branch: &Tensor, weight: &Tensor| {
            add_rms_norm(hidden, &branch.to_kind(Kind::Float), weight, eps)
        };
        let wanted = indices(&batch.wanted);
        let last = self.layers.len().saturating_sub(1);
        // What the layer before adds, not added yet.
        let mut pending: Option<Tensor> = None;
        for (index, layer) in self.layers.iter().enumerate() {
            let normed = match pending.take() {
                Some(branch) => add_norm(&mut hidden, &branch, &layer.input_norm),
                None => rms_norm(&hidden, &layer.input_norm, eps),
            };
            let mut attended = layer.attend(&normed.to_kind(kind), &step, index, &mut self.cache);
            let deep = overlay.as_ref().and_then(|overlay| Some((overlay, overlay.deep.get(index)?)));
            if index == last && deep.is_none() && batch.wanted.len() < batch.rows() {
                // Nobody needs the other rows of the last layer.
                if batch.wanted.is_empty() {
                    return Ok(Logits::default());
                }
                (hidden, attended) = (hidden.index_select(0, &wanted), attended.index_select(0, &wanted));
            }
            let added = layer.feed(&add_norm(&mut hidden, &attended, &layer.mlp_norm).to_kind(kind));
            match deep {
                Some((overlay, deep)) => {
                    let _ = hidden.g_add_(&added).index_add_(0, &overlay.rows, &deep.to_kind(hidden.kind()));
                }
                None => pending = Some(added),
            }
        }
        if hidden.size()[0] != batch.wanted.len() as i64 {
            hidden = hidden.index_select(0, &wanted);
            pending = pending.map(|added| added.index_select(0, &wanted));
        }
        if batch.wanted.is_empty() {
            return Ok(Logits::default());
        }
        let normed = match pending {
            Some(branch) => add_norm(&mut hidden, &branch, &self.norm),
            None => rms_norm(&hidden, &self.norm, eps),
        };
        let logits = self.logits(&normed).to_device(Device::Cpu);
        let values = Vec::<f32>::try_from(logits.flatten(0, -1)).map_err(TensorError::from)?;
        Ok(Logits::new(usize::try_from(self.config.vocab).unwrap_or(0), values))
    }

    /// `[rows, hidden]` → `[rows, vocab]` f32. On the CPU from f32 on: in bf16 the two best of 150,000 are often equal.
    fn logits(&self, normed: &Tensor) -> Tensor {
        if self.device != Device::Cpu {
            return self.head.forward(&normed.to_kind(self.kind)).to_kind(Kind::Float);
        }
        // Few rows at a time multiply a weight of any type, and each row by itself alone.
        let parts = normed.split(HEAD_ROWS, 0);
        let parts: Vec<Tensor> = parts.iter().map(|rows| self.head.forward(rows)).collect();
        Tensor::cat(&parts, 0)
    }

    fn limits(&self) -> Limits {
        Limits {
            vocab: self.config.vocab,
            max_context: self.config.max_context,
            blocks: self.cache.blocks(),
            merge: self.pictures.as_ref().map_or(0, Pictures::merge),
        }
    }
}

impl Decoder for TextModel {
    fn shape(&self) -> DecoderShape {
        DecoderShape {
            vocab: usize::try_from(self.config.vocab).unwrap_or(0),
            max_context: self.config.max_context,
            cache_bytes_per_token: self.cache.bytes_per_token(),
            vision: self.pictures.is_some(),
        }
    }

    fn resize_cache(&mut self, blocks: usize) -> Result<(), DecoderError> {
        catch_libtorch_errors(|| Ok(self.cache.resize(blocks)?)).map_err(|Failure(error)| error)
    }

    fn step(&mut self, segments: &[Segment<'_>]) -> Result<Logits, DecoderError> {
        catch_libtorch_errors(|| self.forward(segments)).map_err(|Failure(error)| error)
    }
}

/// A [`DecoderError`] that errors of tensors turn into.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) DecoderError);

impl From<TensorError> for Failure {
    fn from(error: TensorError) -> Self {
        Self(match error {
            TensorError::OutOfMemory(message) => DecoderError::OutOfMemory(message),
            other => DecoderError::backend(other),
        })
    }
}

impl From<DecoderError> for Failure {
    fn from(error: DecoderError) -> Self {
        Self(error)
    }
}
