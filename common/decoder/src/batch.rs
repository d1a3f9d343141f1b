//! The segments of a step, checked and concatenated.

use videosdgx_decoder_api::{BLOCK_TOKENS, BlockId, DecoderError, LogitsRequest, Segment};

use crate::positions::{self, Position};

/// All tokens of a step, one row each: the input of every layer.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    /// Token ids, segment after segment.
    pub(crate) tokens: Vec<i64>,
    /// Rotary position of each token.
    pub(crate) positions: Vec<Position>,
    /// The segments, in order.
    pub(crate) sequences: Vec<Sequence<'a>>,
    /// Rows whose logits are requested, in order.
    pub(crate) wanted: Vec<i64>,
}

/// The rows of one segment in the batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sequence<'a> {
    /// First row.
    pub(crate) row: usize,
    /// Number of rows.
    pub(crate) rows: usize,
    /// Tokens of the sequence that are in the cache before this step.
    pub(crate) start: usize,
    /// Cache blocks of the sequence.
    pub(crate) blocks: &'a [BlockId],
}

/// Bounds that segments are checked against.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Size of the vocabulary; tokens are below.
    pub(crate) vocab: i64,
    /// Largest number of tokens in a sequence.
    pub(crate) max_context: usize,
    /// Number of cache blocks.
    pub(crate) blocks: usize,
    /// Side, in patches, of the square that becomes one token of a picture; 0 for models without pictures.
    pub(crate) merge: usize,
}

impl<'a> Batch<'a> {
    /// # Errors
    /// [`DecoderError::Failed`] for a segment that is inconsistent or would access cache blocks outside the cache.
    pub(crate) fn new(segments: &[Segment<'a>], limits: Limits) -> Result<Self, DecoderError> {
        let total = segments.iter().map(|segment| segment.tokens.len()).sum();
        let mut batch = Self {
            tokens: Vec::with_capacity(total),
            positions: Vec::with_capacity(total),
            sequences: Vec::with_capacity(segments.len()),
            wanted: Vec::new(),
        };
        for (index, segment) in segments.iter().enumerate() {
            check(segment, limits)
                .map_err(|reason| DecoderError::Failed(format!("segment {index}: {reason}")))?;
            let (row, rows) = (batch.tokens.len(), segment.tokens.len());
            batch.tokens.extend(segment.tokens.iter().map(|&token| i64::from(token)));
            batch.positions.extend(positions::of(
                segment.start..segment.start + rows,
                segment.images,
                limits.merge,
            ));
            match segment.logits {
                LogitsRequest::None => {}
                LogitsRequest::Last => batch.wanted.push((row + rows - 1) as i64),
                LogitsRequest::All => batch.wanted.extend((row..row + rows).map(|row| row as i64)),
            }
            batch.sequences.push(Sequence { row, rows, start: segment.start, blocks: segment.blocks });
        }
        Ok(batch)
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.tokens.len()
    }
}

fn check(segment: &Segment<'_>, limits: Limits) -> Result<(), String> {
    let end = segment.start.saturating_add(segment.tokens.len());
    if segment.tokens.is_empty() {
        return Err("has no tokens".into());
    }
    if end > limits.max_context {
        return Err(format!("ends at {end}, the context holds {}", limits.max_context));
    }
    let needed = end.div_ceil(BLOCK_TOKENS);
    let Some(blocks) = segment.blocks.get(..needed) else {
        return Err(format!("has {} blocks, {needed} are needed for {end} tokens", segment.blocks.len()));
    };
    if let Some(block) = blocks.iter().find(|&&block| block as usize >= limits.blocks) {
        return Err(format!("names block {block} of {}", limits.blocks));
    }
    if let Some(token) = segment.tokens.iter().find(|&&token| i64::from(token) >= limits.vocab) {
        return Err(format!("names token {token} of {}", limits.vocab));
    }
    positions::check(segment.images, limits.merge)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { vocab: 100, max_context: 64, blocks: 4, merge: 0 };

    fn segment<'a>(
        tokens: &'a [u32],
        start: usize,
        blocks: &'a [BlockId],
        logits: LogitsRequest,
    ) -> Segment<'a> {
        Segment { tokens, start, blocks, images: &[], logits }
    }

    #[test]
    fn segments_are_concatenated() {
        let segments = [
            segment(&[1, 2, 3], 0, &[0], LogitsRequest::None),
            segment(&[4], 16, &[2, 1], LogitsRequest::Last),
            segment(&[5, 6], 3, &[3], LogitsRequest::All),
        ];
        let batch = Batch::new(&segments, LIMITS).expect("fits");
        assert_eq!(batch.tokens, [1, 2, 3, 4, 5, 6]);
        assert_eq!(batch.positions, [0, 1, 2, 16, 3, 4].map(Position::text));
        assert_eq!(batch.wanted, [3, 4, 5]);
        assert_eq!(
            batch.sequences.iter().map(|one| (one.row, one.rows)).collect::<Vec<_>>(),
            [(0, 3), (3, 1), (4, 2)]
        );
    }

    #[test]
    fn accesses_outside_the_cache_are_rejected() {
        for (bad, reason) in [
            (segment(&[], 0, &[0], LogitsRequest::None), "no tokens"),
            (segment(&[1], 16, &[0], LogitsRequest::None), "has 1 blocks, 2 are needed"),
            (segment(&[1], 0, &[4], LogitsRequest::None), "names block 4 of 4"),
            (segment(&[100], 0, &[0], LogitsRequest::None), "names token 100"),
            (segment(&[1], 64, &[0; 8], LogitsRequest::None), "ends at 65"),
            (segment(&[1], usize::MAX, &[0; 8], LogitsRequest::None), "the context holds 64"),
        ] {
            let error = Batch::new(&[bad], LIMITS).expect_err(reason).to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
