//! Computes one step on the model, with retries.

use crate::scheduler::{PlannedSegment, SeqId};
use videosdgx_decoder_api::{Decoder, DecoderError, Logits, LogitsRequest, Segment};

/// Result of a step.
pub(super) struct StepOutcome {
    /// Groups of segments (indices in the plan) that were computed together, each with the logits of those of its segments that
    /// sample, in order.
    pub(super) done: Vec<(Vec<usize>, Logits)>,
    /// Segments (indices in the plan) that failed twice, with the last error.
    pub(super) failed: Vec<(usize, DecoderError)>,
    /// Error of the first attempt; the segments in `done` then succeeded on a retry.
    pub(super) first_failure: Option<DecoderError>,
}

impl StepOutcome {
    /// Why the device will compute nothing any more in this process, if it has failed for good.
    pub(super) fn device_failure(&self) -> Option<&str> {
        let errors = self.failed.iter().map(|(_, error)| error);
        errors.chain(&self.first_failure).find_map(|error| match error {
            DecoderError::DeviceFailed(reason) => Some(reason.as_str()),
            _ => None,
        })
    }

    /// Sequences of the segments in `done`.
    pub(super) fn done_sequences(&self, segments: &[PlannedSegment]) -> Vec<SeqId> {
        self.done.iter().flat_map(|(numbers, _)| numbers).map(|number| segments[*number].seq).collect()
    }
}

/// Computes the segments in one call. After a failure it calls `relieve` (which may free memory) and retries once; after a
/// second failure it computes each segment on its own, so that only the segments at fault are lost. Nothing is retried once the
/// device has failed.
pub(super) fn compute<M: Decoder>(
    model: &mut M,
    segments: &[PlannedSegment],
    relieve: impl FnOnce(&mut M, &DecoderError),
) -> StepOutcome {
    let all: Vec<usize> = (0..segments.len()).collect();
    let first = match step(model, segments, &all) {
        Ok(logits) => {
            return StepOutcome { done: vec![(all, logits)], failed: Vec::new(), first_failure: None };
        }
        Err(error) => error,
    };
    if matches!(first, DecoderError::DeviceFailed(_)) {
        return StepOutcome { done: Vec::new(), failed: Vec::new(), first_failure: Some(first) };
    }
    relieve(model, &first);
    let second = match step(model, segments, &all) {
        Ok(logits) => {
            return StepOutcome { done: vec![(all, logits)], failed: Vec::new(), first_failure: Some(first) };
        }
        Err(error) => error,
    };
    let mut computed = StepOutcome { done: Vec::new(), failed: Vec::new(), first_failure: Some(first) };
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
                logits: if planned.samples { LogitsRequest::Last } else { LogitsRequest::None },
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
