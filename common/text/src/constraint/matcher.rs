//! One output on its way through a grammar.

use std::sync::Arc;
use std::time::Duration;

use super::ConstraintError;
use super::watchdog::Watchdog;

/// Longest time of a step: the other streams wait meanwhile. Ordinary ones take some 50 µs, twenty times that without optimisation.
const STEP_LIMIT: Duration = Duration::from_millis(if cfg!(debug_assertions) { 3000 } else { 500 });
/// Longest time of the first step, on the caller's thread.
const FIRST_STEP_LIMIT: Duration = Duration::from_secs(if cfg!(debug_assertions) { 4 } else { 2 });

/// Where an output is in its grammar. A clone goes on on its own and shares what was computed about the grammar.
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

    /// A copy that shares nothing, so that one output's complexity is not another's.
    pub(super) fn detached(&self) -> Self {
        Self { inner: self.inner.deep_clone(), watchdog: Arc::clone(&self.watchdog) }
    }

    /// Computes what may come first, so that it is known when it is asked for.
    pub(super) fn warm_up(&mut self) -> Result<(), ConstraintError> {
        self.watched(FIRST_STEP_LIMIT, llguidance::Matcher::compute_mask_or_eos).map(|_| ()).map_err(
            |error| match error {
                ConstraintError::Stuck(reason) => {
                    ConstraintError::Invalid(format!("it is too complex: {reason}"))
                }
                other => other,
            },
        )
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

    /// Sets the logits (one a token id) of all tokens that cannot come next to minus infinity; when the grammar is at its end, of all but
    /// the end tokens.
    ///
    /// # Errors
    /// [`ConstraintError::Stuck`] when the grammar became too complex; `logits` are as before then.
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

    /// Writes the tokens that may come next as bits, 32 ids a word, the lowest id in the lowest bit; words beyond the vocabulary become 0.
    ///
    /// # Errors
    /// As [`Matcher::mask_logits`].
    pub fn allowed(&mut self, words: &mut [u32]) -> Result<(), ConstraintError> {
        let mask = self.watched(STEP_LIMIT, llguidance::Matcher::compute_mask_or_eos)?;
        let allowed = mask.as_slice().iter().copied().chain(std::iter::repeat(0));
        words.iter_mut().zip(allowed).for_each(|(word, allowed)| *word = allowed);
        Ok(())
    }

    /// Takes the chosen token.
    ///
    /// # Errors
    /// [`ConstraintError::Stuck`] for a token that was masked. The matcher is of no more use then: go on with a clone from before.
    pub fn accept(&mut self, token: u32) -> Result<(), ConstraintError> {
        self.watched(STEP_LIMIT, |inner| inner.consume_token(token))
    }

    /// Takes the last `tokens` back.
    ///
    /// # Errors
    /// [`ConstraintError::Stuck`] when there were not as many.
    pub fn rollback(&mut self, tokens: usize) -> Result<(), ConstraintError> {
        self.inner.rollback(tokens).map_err(stuck)
    }

    /// Nothing but an end token can come: the output is whole.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.inner.is_stopped()
    }

    /// The output would be whole if it ended here.
    pub fn may_finish(&mut self) -> bool {
        self.inner.is_accepting().unwrap_or(false)
    }

    /// Tokens that must come next, in the tokenizer's own cutting; they need not be sampled, only [`accept`](Self::accept)ed. Often none.
    pub fn forced_tokens(&mut self) -> Vec<u32> {
        self.inner.compute_ff_tokens()
    }
}

fn stuck(error: impl std::fmt::Display) -> ConstraintError {
    ConstraintError::Stuck(error.to_string())
}
