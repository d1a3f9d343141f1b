//! Per-sequence state of the inference thread, apart from the tokens.

use super::{TokenMask, TokenMatcher};
use crate::sampler::{RowLogprobs, SampleError, Sampler};
use crate::{ErrorCode, FinishReason, StopConditions};

/// Samples the tokens of one sequence and detects its end.
pub(super) struct SequenceState {
    pub(super) sampler: Sampler,
    pub(super) matcher: Option<Box<dyn TokenMatcher>>,
    pub(super) stop: StopConditions,
    /// Number of tokens sampled so far.
    pub(super) position: usize,
}

/// A sampled token.
#[derive(Debug)]
pub(super) struct SampledToken {
    pub(super) id: u32,
    pub(super) logprobs: Option<RowLogprobs>,
    /// Why the sequence ends with this token, if it does.
    pub(super) end: Option<FinishReason>,
    /// It is an end token, which is not output.
    pub(super) hidden: bool,
}

impl SequenceState {
    /// Samples the next token from a row of logits. `last`: the sequence reaches its maximum length with it.
    ///
    /// # Errors
    /// Why the sequence cannot be continued.
    pub(super) fn sample(
        &mut self,
        row: &mut [f32],
        mask: &mut TokenMask,
        last: bool,
    ) -> Result<SampledToken, (ErrorCode, String)> {
        let constraint = |reason: String| (ErrorCode::ConstraintFailed, reason);
        let allowed = match &mut self.matcher {
            None => None,
            Some(matcher) => {
                mask.clear();
                matcher.allowed(mask).map_err(constraint)?;
                Some(&*mask)
            }
        };
        let sampled = self.sampler.sample(row, self.position, allowed).map_err(|error| match error {
            SampleError::NotFinite => (
                ErrorCode::NumericalFailure,
                "the model computed values that are not finite numbers (logits); try VIDEOSDGX_DTYPE=bf16 or f32".to_owned(),
            ),
            SampleError::NothingAllowed => constraint("the constraint allows no token here".to_owned()),
        })?;
        self.position += 1;
        let hidden = !self.stop.ignore_end && self.stop.token_ids.contains(&sampled.id);
        let mut end = hidden.then_some(FinishReason::Stop);
        if !hidden
            && let Some(matcher) = &mut self.matcher
            && matcher.accept(sampled.id).map_err(constraint)?
        {
            end = Some(FinishReason::Stop);
        }
        let end = end.or(last.then_some(FinishReason::Length));
        Ok(SampledToken { id: sampled.id, logprobs: sampled.logprobs, end, hidden })
    }
}
