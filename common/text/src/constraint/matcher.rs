//! One output on its way through a grammar.

use super::ConstraintError;

/// Where an output is in its grammar. A clone goes on on its own and shares what was computed about the grammar.
#[derive(Clone)]
pub struct Matcher {
    inner: llguidance::Matcher,
}

impl std::fmt::Debug for Matcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Matcher").field("finished", &self.is_finished()).finish_non_exhaustive()
    }
}

impl Matcher {
    pub(super) fn new(inner: llguidance::Matcher) -> Result<Self, ConstraintError> {
        match inner.get_error() {
            Some(error) => Err(ConstraintError::Invalid(error)),
            None => Ok(Self { inner }),
        }
    }

    /// A copy that shares nothing, so that one output's complexity is not another's.
    pub(super) fn detached(&self) -> Self {
        Self { inner: self.inner.deep_clone() }
    }

    /// Sets the logits (one a token id) of all tokens that cannot come next to minus infinity; when the grammar is at its end, of all but
    /// the end tokens.
    ///
    /// # Errors
    /// [`ConstraintError::Stuck`] when the grammar became too complex; `logits` are as before then.
    pub fn mask_logits(&mut self, logits: &mut [f32]) -> Result<(), ConstraintError> {
        let mask = self.inner.compute_mask_or_eos().map_err(stuck)?;
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
        let mask = self.inner.compute_mask_or_eos().map_err(stuck)?;
        let allowed = mask.as_slice().iter().copied().chain(std::iter::repeat(0));
        words.iter_mut().zip(allowed).for_each(|(word, allowed)| *word = allowed);
        Ok(())
    }

    /// Takes the chosen token.
    ///
    /// # Errors
    /// [`ConstraintError::Stuck`] for a token that was masked. The matcher is of no more use then: go on with a clone from before.
    pub fn accept(&mut self, token: u32) -> Result<(), ConstraintError> {
        self.inner.consume_token(token).map_err(stuck)
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
