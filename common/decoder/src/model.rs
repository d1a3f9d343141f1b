//! A loaded model, as the engine uses it.

use tch::{Device, Kind, Tensor};
use videosdgx_decoder_api::{Decoder, DecoderError, DecoderShape, Logits, Segment};
use videosdgx_tensor::{
    Embedding, KvCache, Linear, PagedSegment, TensorError, add_rms_norm, catch_libtorch_errors, rms_norm,
};

use crate::DecoderConfig;
use crate::batch::{Batch, Limits};
use crate::pictures::Pictures;
use crate::stack::{Stack, scaled};

/// Rows that the output layer multiplies together on the CPU.
const HEAD_ROWS: i64 = 16;

/// A loaded decoder of any family with its KV cache; made by [`crate::Source::load`].
pub struct TextModel {
    pub(crate) config: DecoderConfig,
    pub(crate) device: Device,
    /// The compute type.
    pub(crate) kind: Kind,
    pub(crate) embedding: Embedding,
    pub(crate) stack: Stack,
    pub(crate) head: Linear,
    pub(crate) cache: KvCache,
    pub(crate) pictures: Option<Pictures>,
    pub(crate) unused: Vec<String>,
    pub(crate) weight_bytes: u64,
}

impl TextModel {
    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// Tensors of the checkpoint that were neither loaded nor known to be redundant, sorted.
    #[must_use]
    pub fn unused(&self) -> &[String] {
        &self.unused
    }

    /// Bytes of all weights in memory, without the KV cache.
    #[must_use]
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// Computes the requested logits, `[requested rows, vocab]` f32 on the host.
    fn forward(&mut self, segments: &[Segment<'_>]) -> Result<Logits, StepError> {
        let batch = Batch::new(segments, self.limits())?;
        let indices = |rows: &[i64]| Tensor::from_slice(rows).to_device(self.device);
        // The residual stream stays in f32: in bf16 each layer would round it to eight bits.
        let embedded = self.embedding.forward(&indices(&batch.tokens));
        let mut hidden = scaled(&embedded, self.config.block.embedding_scale);
        let overlay = match &mut self.pictures {
            Some(pictures) => pictures.overlay(segments, &batch, self.device)?,
            None => None,
        };
        if let Some(overlay) = &overlay {
            let _ = hidden.index_copy_(0, &overlay.rows, &overlay.features.to_kind(hidden.kind()));
        }
        let segments = batch.sequences.iter();
        let segments =
            segments.map(|one| PagedSegment { start: one.start, len: one.rows, blocks: one.blocks });
        let step = self.stack.step(&batch.positions, segments.collect());
        let (eps, kind) = (self.config.norm_eps, self.kind);
        let add_norm = |hidden: &mut Tensor, branch: &Tensor, weight: &Tensor| {
            add_rms_norm(hidden, &branch.to_kind(Kind::Float), weight, eps)
        };
        let wanted = indices(&batch.wanted);
        let last = self.stack.layers.len().saturating_sub(1);
        // The output of the previous layer, not added yet.
        let mut pending: Option<Tensor> = None;
        for (index, layer) in self.stack.layers.iter().enumerate() {
            let normed = match pending.take() {
                Some(branch) => add_norm(&mut hidden, &branch, &layer.input_norm),
                None => rms_norm(&hidden, &layer.input_norm, eps),
            };
            let mut attended = layer.attend(&normed.to_kind(kind), &step, index, &mut self.cache);
            let deep = overlay.as_ref().and_then(|overlay| Some((overlay, overlay.deep.get(index)?)));
            if index == last && deep.is_none() && batch.wanted.len() < batch.rows() {
                // The last layer is needed for the requested rows only.
                if batch.wanted.is_empty() {
                    return Ok(Logits::default());
                }
                (hidden, attended) = (hidden.index_select(0, &wanted), attended.index_select(0, &wanted));
            }
            let added = layer.feed_forward(&add_norm(&mut hidden, &attended, &layer.mlp_norm).to_kind(kind));
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
            Some(branch) => add_norm(&mut hidden, &branch, &self.stack.norm),
            None => rms_norm(&hidden, &self.stack.norm, eps),
        };
        let logits = self.logits(&normed).to_device(Device::Cpu);
        let values = Vec::<f32>::try_from(logits.flatten(0, -1)).map_err(TensorError::from)?;
        Ok(Logits::new(usize::try_from(self.config.vocab).unwrap_or(0), values))
    }

    /// `[rows, hidden]` → `[rows, vocab]` f32. On the CPU computed from f32: in bf16 the two best of 150,000 are
    /// often equal.
    fn logits(&self, normed: &Tensor) -> Tensor {
        let logits = self.product(normed);
        match self.config.block.logit_cap {
            Some(cap) => (logits / cap).tanh() * cap,
            None => logits,
        }
    }

    fn product(&self, normed: &Tensor) -> Tensor {
        if self.device != Device::Cpu {
            return self.head.forward(&normed.to_kind(self.kind)).to_kind(Kind::Float);
        }
        // Few rows at a time, which multiply a weight of any type, each row independently of the others.
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
        catch_libtorch_errors(|| Ok(self.cache.resize(blocks)?)).map_err(|StepError(error)| error)
    }

    fn step(&mut self, segments: &[Segment<'_>]) -> Result<Logits, DecoderError> {
        catch_libtorch_errors(|| self.forward(segments)).map_err(|StepError(error)| error)
    }
}

/// A [`DecoderError`], with conversions from tensor errors.
#[derive(Debug)]
pub(crate) struct StepError(pub(crate) DecoderError);

impl From<TensorError> for StepError {
    fn from(error: TensorError) -> Self {
        Self(match error {
            TensorError::OutOfMemory(message) => DecoderError::OutOfMemory(message),
            TensorError::DeviceFailed(message) => DecoderError::DeviceFailed(message),
            other => DecoderError::backend(other),
        })
    }
}

impl From<DecoderError> for StepError {
    fn from(error: DecoderError) -> Self {
        Self(error)
    }
}
