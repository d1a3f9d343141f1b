//! The state of one output in its grammar.

use std::sync::Arc;
use std::time::Duration;

use super::ConstraintError;
use super::budget::CompileBudget;
use super::watchdog::Watchdog;

/// Time limit of a step, during which the other streams wait. Typical steps take 50 µs, or 1 ms without optimisation.
const STEP_LIMIT: Duration = Duration::from_millis(if cfg!(debug_assertions) { 3000 } else { 500 });

/// The state of an output in its grammar. Clones continue independently and share what was computed about the grammar.
#[derive(Clone)]
pub struct Matcher {
    inner: llguidance::Matcher,
    watchdog: Arc<Watchdog>,
}

impl std::fmt::Debug for Matcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Matcher").field("finished", &self.is_finished()).finish_non_exhaustive()
    }
}

impl Matcher {
    pub(super) fn new(inner: llguidance::Matcher, watchdog: &Arc<Watchdog>) -> Result<Self, ConstraintError> {
        match inner.get_error() {
            Some(error) => Err(ConstraintError::Invalid(error)),
            None => Ok(Self { inner, watchdog: Arc::clone(watchdog) }),
        }
    }

    /// A deep copy, so that limits on complexity apply to each output separately.
    pub(super) fn detached(&self) -> Self {
        Self { inner: self.inner.deep_clone(), watchdog: Arc::clone(&self.watchdog) }
    }

    /// Computes the first mask in advance, within what is left of `budget`.
    pub(super) fn warm_up(&mut self, budget: &CompileBudget) -> Result<(), ConstraintError> {
        if let Some(handle) = self.inner.cancellation_handle() {
            budget.begin_step(handle);
        }
        let warmed = self.watched(budget.left(), llguidance::Matcher::compute_mask_or_eos);
        budget.end_step();
        if warmed.is_ok() && self.inner.is_cancelled() {
            return budget.check().and(Err(ConstraintError::TooSlow));
        }
        warmed.map(|_| ()).map_err(|error| match (budget.check(), error) {
            (Err(ended), _) => ended,
            (Ok(()), ConstraintError::Stuck(reason)) => {
                ConstraintError::Invalid(format!("the constraint is too complex: {reason}"))
            }
            (Ok(()), other) => other,
        })
    }

    fn watched<T, E: std::fmt::Display>(
        &mut self,
        limit: Duration,
        work: impl FnOnce(&mut llguidance::Matcher) -> Result<T, E>,
    ) -> Result<T, ConstraintError> {
        let handle = self.inner.cancellation_handle();
        let step = handle.as_ref().map(|handle| self.watchdog.watch(handle, limit));
        let done = work(&mut self.inner);
        drop(step);
        done.map_err(|error| match handle.is_some_and(|handle| handle.is_cancelled()) {
            true => ConstraintError::Stuck(format!("a step took longer than {limit:?}")),
            false => ConstraintError::Stuck(error.to_string()),
        })
    }

    /// Sets the logits (one per token id) of all tokens that are not allowed next to negative infinity; at the end of the grammar only
    /// end tokens are allowed.
    ///
    /// # Errors
    /// [`ConstraintError::Stuck`] when the grammar is too complex; `logits` are then unchanged.
    pub fn mask_logits(&mut self, logits: &mut [f32]) -> Result<(), ConstraintError> {
        let mask = self.watched(STEP_LIMIT, llguidance::Matcher::compute_mask_or_eos)?;
        let words = mask.as_slice().iter().copied().chain(std::iter::repeat(0));
        for (chunk, word) in logits.chunks_mut(32).zip(words) {
            if word == u32::MAX {
                continue;
            }
            for (bit, logit) in chunk.iter_mut().enumerate() {
                if word >> bit & 1 == 0 {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
        Ok(())
    }

    /// Writes the allowed next tokens as bits, 32 ids per word, lowest id in the least significant bit; words beyond the vocabulary are
    /// set to 0.
    ///
    /// # Errors
    /// As [`Matcher::mask_logits`].
    pub fn allowed(&mut self, words: &mut [u32]) -> Result<(), ConstraintError> {
        let mask = self.watched(STEP_LIMIT, llguidance::Matcher::compute_mask_or_eos)?;
        let allowed = mask.as_slice().iter().copied().chain(std::iter::repeat(0));
        words.iter_mut().zip(allowed).for_each(|(word, allowed)| *word = allowed);
        Ok(())
    }

    /// Advances by the sampled token.
    ///
    /// # Errors
    /// [`ConstraintError::Stuck`] for a token that is not allowed. The matcher is then unusable; continue with an earlier clone.
    pub fn accept(&mut self, token: u32) -> Result<(), ConstraintError> {
        self.watched(STEP_LIMIT, |inner| inner.consume_token(token))
    }

    /// Reverts the last `tokens` tokens.
    ///
    /// # Errors
    /// [`ConstraintError::Stuck`] when fewer tokens were accepted.
    pub fn rollback(&mut self, tokens: usize) -> Result<(), ConstraintError> {
        self.inner.rollback(tokens).map_err(stuck)
    }

    /// Whether the output is complete and only an end token is allowed.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.inner.is_stopped()
    }

    /// Whether the output may end here.
    pub fn may_finish(&mut self) -> bool {
        self.inner.is_accepting().unwrap_or(false)
    }

    /// Tokens that must come next, as the tokenizer would split them. They need not be sampled, only [`accept`](Self::accept)ed. Often
    /// empty.
    pub fn forced_tokens(&mut self) -> Vec<u32> {
        self.inner.compute_ff_tokens()
    }
}

fn stuck(error: impl std::fmt::Display) -> ConstraintError {
    ConstraintError::Stuck(error.to_string())
}
