//! What the inference thread keeps of one sequence beside its tokens.

use super::{TokenMask, TokenMatcher};
use crate::sampler::{RowLogprobs, SampleError, Sampler};
use crate::{ErrorCode, FinishReason, StopConditions};

/// Chooses the tokens of one sequence and knows when it ends.
pub(super) struct SequenceState {
    pub(super) sampler: Sampler,
    pub(super) matcher: Option<Box<dyn TokenMatcher>>,
    pub(super) stop: StopConditions,
    /// Tokens chosen so far.
    pub(super) position: usize,
}

/// A token that was chosen.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) id: u32,
    pub(super) logprobs: Option<RowLogprobs>,
    /// It ends the sequence.
    pub(super) end: Option<FinishReason>,
    /// It is an end token: not shown.
    pub(super) hidden: bool,
}

impl SequenceState {
    /// Chooses the next token from a row of logits; `last`: there is room for no other after it.
    ///
    /// # Errors
    /// Why the sequence cannot go on.
    pub(super) fn choose(
        &mut self,
        row: &mut [f32],
        mask: &mut TokenMask,
        last: bool,
    ) -> Result<Chosen, (ErrorCode, String)> {
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
            SampleError::NoLogits => {
                (ErrorCode::StepFailed, "the model's output has no usable number".to_owned())
            }
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
        Ok(Chosen { id: sampled.id, logprobs: sampled.logprobs, end, hidden })
    }
}
