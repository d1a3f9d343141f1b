//! Pictures in a sequence: their features take the place of placeholder tokens, and more of them are added after the first
//! layers (Meng et al. 2024, "DeepStack").

use std::collections::VecDeque;

use tch::{Device, Tensor};
use videosdgx_decoder_api::{ImageInput, Segment};

use crate::batch::Batch;
use crate::model::Failure;
use crate::vision::{Features, VisionTower};

/// Most bytes of features that are kept for the next steps and requests.
const KEPT_BYTES: u64 = 256 << 20;

/// The vision tower and what it has computed lately.
pub(crate) struct Pictures {
    tower: VisionTower,
    /// By digest of the picture, the one used last at the end.
    kept: VecDeque<([u8; 32], Features)>,
}

/// What a step takes from pictures.
pub(crate) struct Overlay {
    /// Rows of the batch that are parts of pictures, `[n]`.
    pub(crate) rows: Tensor,
    /// `[n, hidden]`, instead of the embedding.
    pub(crate) features: Tensor,
    /// `[n, hidden]` each, added after the first layers.
    pub(crate) deep: Vec<Tensor>,
}

impl Pictures {
    pub(crate) fn new(tower: VisionTower) -> Self {
        Self { tower, kept: VecDeque::new() }
    }

    /// Side of the square of patches that is one token.
    pub(crate) fn merge(&self) -> usize {
        usize::try_from(self.tower.config().merge).unwrap_or(0)
    }

    /// None when no row of the step is part of a picture. Pictures that were not seen lately go through the tower.
    pub(crate) fn overlay(
        &mut self,
        segments: &[Segment<'_>],
        batch: &Batch<'_>,
        device: Device,
    ) -> Result<Option<Overlay>, Failure> {
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
        self.forget();
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

    /// Of the whole picture; it is the last in the queue then.
    fn features(&mut self, image: &ImageInput) -> Result<&Features, Failure> {
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

    /// Drops what was not used for longest until the rest is small enough.
    fn forget(&mut self) {
        let mut bytes: u64 = self.kept.iter().map(|(_, features)| features.bytes()).sum();
        while bytes > KEPT_BYTES
            && let Some((_, features)) = self.kept.pop_front()
        {
            bytes -= features.bytes();
        }
    }
}
