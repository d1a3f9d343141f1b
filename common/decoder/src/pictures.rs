//! Pictures in a sequence: their features replace the embeddings of placeholder tokens, and further features are
//! added after the first layers (Meng et al. 2024, "DeepStack").

use std::collections::VecDeque;

use tch::{Device, Tensor};
use videosdgx_decoder_api::{ImageInput, Segment};

use crate::batch::Batch;
use crate::model::StepError;
use crate::vision::{Features, VisionTower};

/// Capacity of the cache of features, in bytes.
const CACHE_BYTES: u64 = 256 << 20;

/// The vision tower and a cache of the features that it computed.
pub(crate) struct Pictures {
    tower: VisionTower,
    /// By digest of the picture, least recently used first.
    kept: VecDeque<([u8; 32], Features)>,
}

/// The features of pictures in a step.
pub(crate) struct Overlay {
    /// Rows of the batch that belong to pictures, `[n]`.
    pub(crate) rows: Tensor,
    /// `[n, hidden]`, which replace the embeddings.
    pub(crate) features: Tensor,
    /// `[n, hidden]` each, added after the first layers.
    pub(crate) deep: Vec<Tensor>,
}

impl Pictures {
    pub(crate) fn new(tower: VisionTower) -> Self {
        Self { tower, kept: VecDeque::new() }
    }

    /// Side, in patches, of the square that becomes one token.
    pub(crate) fn merge(&self) -> usize {
        usize::try_from(self.tower.config().merge).unwrap_or(0)
    }

    /// The features for the rows of a step; `None` when no row belongs to a picture. Pictures that are not in the
    /// cache go through the tower.
    pub(crate) fn overlay(
        &mut self,
        segments: &[Segment<'_>],
        batch: &Batch<'_>,
        device: Device,
    ) -> Result<Option<Overlay>, StepError> {
        let (mut rows, mut parts) = (Vec::new(), Vec::new());
        for (segment, sequence) in segments.iter().zip(&batch.sequences) {
            let end = sequence.start + sequence.rows;
            for image in segment.images {
                let first = image.position.max(sequence.start);
                let last = (image.position + image.tokens).min(end);
                if first >= last {
                    continue;
                }
                rows.extend((first..last).map(|token| (sequence.row + token - sequence.start) as i64));
                let features = self.features(image)?;
                parts.push(features.rows((first - image.position) as i64, (last - first) as i64));
            }
        }
        self.evict();
        if rows.is_empty() {
            return Ok(None);
        }
        let joined = |choose: &dyn Fn(&Features) -> &Tensor| {
            Tensor::cat(&parts.iter().map(choose).collect::<Vec<_>>(), 0)
        };
        let levels = self.tower.config().deepstack.len();
        Ok(Some(Overlay {
            rows: Tensor::from_slice(&rows).to_device(device),
            features: joined(&|features| &features.merged),
            deep: (0..levels).map(|level| joined(&|features| &features.deepstack[level])).collect(),
        }))
    }

    /// The features of a whole picture, which becomes the most recently used one.
    fn features(&mut self, image: &ImageInput) -> Result<&Features, StepError> {
        let known = self.kept.iter().position(|(digest, features)| {
            *digest == image.digest && features.merged.size()[0] == image.tokens as i64
        });
        let known = match known.and_then(|index| self.kept.remove(index)) {
            Some(known) => known,
            None => (image.digest, self.tower.encode(&[image])?),
        };
        self.kept.push_back(known);
        let (_, features) = &self.kept[self.kept.len() - 1];
        Ok(features)
    }

    /// Removes the least recently used features until the cache is within its capacity.
    fn evict(&mut self) {
        let mut bytes: u64 = self.kept.iter().map(|(_, features)| features.bytes()).sum();
        while bytes > CACHE_BYTES
            && let Some((_, features)) = self.kept.pop_front()
        {
            bytes -= features.bytes();
        }
    }
}
