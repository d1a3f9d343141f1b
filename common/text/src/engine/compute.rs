//! One step on the model, tried again when it fails.

use crate::scheduler::{PlannedSegment, SeqId};
use videosdgx_decoder_api::{Decoder, DecoderError, Logits, LogitsRequest, Segment};

/// What came of a step.
pub(super) struct Computed {
    /// Segments that were computed, by their number in the plan, with the logits of those that choose, in order.
    pub(super) done: Vec<(Vec<usize>, Logits)>,
    /// Segments that failed twice.
    pub(super) failed: Vec<(usize, DecoderError)>,
    /// The first failure, when the second attempt got through for all that is in `done`.
    pub(super) first_failure: Option<DecoderError>,
}

impl Computed {
    /// Who is in `done`.
    pub(super) fn done_seqs(&self, segments: &[PlannedSegment]) -> Vec<SeqId> {
        self.done.iter().flat_map(|(numbers, _)| numbers).map(|number| segments[*number].seq).collect()
    }
}

/// Computes the segments together; when that fails, once more after `relieve` (which gives memory back when that was what
/// failed); when that fails too, each alone, so that only the ones that cannot be computed are lost.
pub(super) fn compute<M: Decoder>(
    model: &mut M,
    segments: &[PlannedSegment],
    relieve: impl FnOnce(&mut M, &DecoderError),
) -> Computed {
    let all: Vec<usize> = (0..segments.len()).collect();
    let first = match step(model, segments, &all) {
        Ok(logits) => return Computed { done: vec![(all, logits)], failed: Vec::new(), first_failure: None },
        Err(error) => error,
    };
    relieve(model, &first);
    let second = match step(model, segments, &all) {
        Ok(logits) => {
            return Computed { done: vec![(all, logits)], failed: Vec::new(), first_failure: Some(first) };
        }
        Err(error) => error,
    };
    let mut computed = Computed { done: Vec::new(), failed: Vec::new(), first_failure: Some(first) };
    if let [only] = all[..] {
        computed.failed.push((only, second));
        return computed;
    }
    for number in all {
        match step(model, segments, &[number]) {
            Ok(logits) => computed.done.push((vec![number], logits)),
            Err(error) => computed.failed.push((number, error)),
        }
    }
    computed
}

fn step<M: Decoder>(
    model: &mut M,
    planned: &[PlannedSegment],
    numbers: &[usize],
) -> Result<Logits, DecoderError> {
    let segments: Vec<Segment<'_>> = numbers
        .iter()
        .map(|number| {
            let planned = &planned[*number];
            Segment {
                tokens: &planned.tokens,
                start: planned.start,
                blocks: &planned.blocks,
                images: &planned.images,
                logits: if planned.chooses { LogitsRequest::Last } else { LogitsRequest::None },
            }
        })
        .collect();
    let requested = segments.iter().filter(|segment| segment.logits == LogitsRequest::Last).count();
    let logits = model.step(&segments)?;
    if logits.rows() == requested {
        Ok(logits)
    } else {
        Err(DecoderError::Failed(format!(
            "the model returned {} rows of logits instead of {requested}",
            logits.rows()
        )))
    }
}
