//! The cache as libtorch tensors, for devices other than the CPU: blocks are gathered, then libtorch's attention
//! runs.

use tch::{Device, IndexOp, Kind, Tensor};

use super::{AttentionSpan, CACHE_BLOCK_TOKENS, KvCacheShape, PagedSegment, ValueStorage};
use crate::TensorError;

pub(super) struct Gathered {
    shape: KvCacheShape,
    kind: Kind,
    device: Device,
    /// One tensor for each layer: `[blocks · 16, heads, key_dim]`.
    keys: Vec<Tensor>,
    /// One tensor for each layer: `[blocks · 16, heads, dim]`; empty where values are part of the keys.
    values: Vec<Tensor>,
}

impl Gathered {
    pub(super) fn new(shape: KvCacheShape, kind: Kind, device: Device) -> Result<Self, TensorError> {
        let mut cache = Self { shape, kind, device, keys: Vec::new(), values: Vec::new() };
        cache.resize(0)?;
        Ok(cache)
    }

    pub(super) fn resize(&mut self, blocks: usize) -> Result<(), TensorError> {
        let tokens = (blocks * CACHE_BLOCK_TOKENS) as i64;
        let resized = |old: &[Tensor], dim: usize| {
            (0..self.shape.layers)
                .map(|layer| {
                    let size = [tokens, self.shape.heads as i64, dim as i64];
                    let new = Tensor::f_zeros(size, (self.kind, self.device))?;
                    if let Some(old) = old.get(layer) {
                        let kept = tokens.min(old.size()[0]);
                        new.f_narrow(0, 0, kept)?.f_copy_(&old.f_narrow(0, 0, kept)?)?;
                    }
                    Ok(new)
                })
                .collect::<Result<Vec<Tensor>, TensorError>>()
        };
        let keys = resized(&self.keys, self.shape.key_dim)?;
        if let ValueStorage::Separate(dim) = self.shape.value {
            self.values = resized(&self.values, dim)?;
        }
        self.keys = keys;
        Ok(())
    }

    pub(super) fn write(
        &mut self,
        layer: usize,
        key: &Tensor,
        value: Option<&Tensor>,
        segments: &[PagedSegment<'_>],
    ) {
        let slots: Vec<i64> = segments
            .iter()
            .flat_map(|segment| (segment.start..segment.start + segment.len).map(|at| slot(segment, at)))
            .collect();
        let slots = Tensor::from_slice(&slots).to_device(self.device);
        let _ = self.keys[layer].index_copy_(0, &slots, &key.to_kind(self.kind));
        if let Some(value) = value {
            let _ = self.values[layer].index_copy_(0, &slots, &value.to_kind(self.kind));
        }
    }

    pub(super) fn attention(
        &self,
        layer: usize,
        query: &Tensor,
        segments: &[PagedSegment<'_>],
        scoring: (AttentionSpan, f64),
    ) -> Tensor {
        let mut first = 0;
        let parts: Vec<Tensor> = segments
            .iter()
            .filter(|segment| segment.len > 0)
            .map(|segment| {
                let rows = query.narrow(0, first, segment.len as i64);
                first += segment.len as i64;
                self.one(layer, &rows, segment, scoring)
            })
            .collect();
        match parts.len() {
            0 => Tensor::empty(
                [0, query.size()[1], self.shape.value.dim() as i64],
                (query.kind(), query.device()),
            ),
            _ => Tensor::cat(&parts, 0),
        }
    }

    /// Attention of one segment: `[len, query heads, key_dim]` → `[len, query heads, dim]`.
    fn one(
        &self,
        layer: usize,
        query: &Tensor,
        segment: &PagedSegment<'_>,
        (span, scale): (AttentionSpan, f64),
    ) -> Tensor {
        // Only the tokens that some query attends to are gathered.
        let (first, end) = (span.first(segment.start + 1), segment.start + segment.len);
        let slots: Vec<i64> = (first..end).map(|at| slot(segment, at)).collect();
        let slots = Tensor::from_slice(&slots).to_device(self.device);
        let key = self.keys[layer].index_select(0, &slots).to_kind(query.kind());
        let value = match self.shape.value {
            ValueStorage::Separate(_) => self.values[layer].index_select(0, &slots).to_kind(query.kind()),
            ValueStorage::KeyPrefix(dim) => key.i((.., .., ..dim as i64)),
        };
        let group = query.size()[1] / self.shape.heads as i64;
        let [query, key, value] = [query, &key, &value].map(|tensor| tensor.transpose(0, 1).unsqueeze(0));
        let (key, value) = if group > 1 {
            (key.repeat_interleave_self_int(group, 1, None), value.repeat_interleave_self_int(group, 1, None))
        } else {
            (key, value)
        };
        // Query i attends to the keys up to its own position, and with a window not to those before it.
        let mask = (segment.len > 1).then(|| {
            let size = [segment.len as i64, (end - first) as i64];
            let own = (segment.start - first) as i64;
            let mask = Tensor::ones(size, (Kind::Bool, query.device())).tril(own);
            match span {
                AttentionSpan::All => mask,
                AttentionSpan::Window(window) => {
                    mask.triu(own + 1 - i64::try_from(window.max(1)).unwrap_or(i64::MAX))
                }
            }
        });
        let output = Tensor::scaled_dot_product_attention(
            &query,
            &key,
            &value,
            mask.as_ref(),
            0.0,
            false,
            Some(scale),
            false,
        );
        output.squeeze_dim(0).transpose(0, 1)
    }
}

/// Row of position `at` of a sequence in the cache.
fn slot(segment: &PagedSegment<'_>, at: usize) -> i64 {
    (segment.blocks[at / CACHE_BLOCK_TOKENS] as usize * CACHE_BLOCK_TOKENS + at % CACHE_BLOCK_TOKENS) as i64
}
