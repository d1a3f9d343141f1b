//! Sampling of the next token from a row of logits.
//!
//! Order, as in transformers: bias, penalties, masks (padding, constraint), temperature, top-k, top-p, min-p, random selection.
//! The selection needs one random number, which is a function of the seed and the token's position only: the same seed gives the
//! same text regardless of the rest of the batch, of preemption, and of retried steps.

mod choose;
mod logprobs;
mod penalties;
mod random;
#[cfg(test)]
mod tests;
mod weights;

use crate::engine::TokenMask;
use crate::{SamplingParams, TokenLogprob};

pub(crate) use logprobs::RowLogprobs;
pub(crate) use random::uniform;

/// Why no token can be sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SampleError {
    /// The row has a value that is not a finite number.
    NotFinite,
    /// The constraint allows no token.
    NothingAllowed,
}

/// Sampling state of one sequence.
#[derive(Debug)]
pub(crate) struct Sampler {
    params: SamplingParams,
    seed: u64,
    /// Ids at or above it are padding.
    vocab: usize,
    logprobs: Option<u8>,
    counts: penalties::TokenCounts,
    scratch: choose::Scratch,
}

/// A sampled token.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    pub(crate) id: u32,
    pub(crate) logprobs: Option<RowLogprobs>,
}

impl Sampler {
    /// A sampler for a sequence with this prompt.
    pub(crate) fn new(
        params: SamplingParams,
        seed: u64,
        vocab: usize,
        logprobs: Option<u8>,
        prompt: &[u32],
    ) -> Self {
        let counts = penalties::TokenCounts::new(&params, prompt);
        Self { params, seed, vocab, logprobs, counts, scratch: choose::Scratch::default() }
    }

    /// Samples output token number `position` (from 0) from `row`, which is modified. `mask` has the ids that a constraint allows.
    ///
    /// # Errors
    /// When no token can be sampled.
    pub(crate) fn sample(
        &mut self,
        row: &mut [f32],
        position: usize,
        mask: Option<&TokenMask>,
    ) -> Result<Sample, SampleError> {
        let vocab = self.vocab.min(row.len());
        let row = &mut row[..vocab];
        // One such value means that the computation has failed: the others are wrong, too.
        if !row.iter().fold(true, |finite, value| finite & value.is_finite()) {
            return Err(SampleError::NotFinite);
        }
        // Log-probabilities are those of the model, before bias, penalties and masks.
        let raw = self.logprobs.map(|top| logprobs::RowStatistics::of(row, usize::from(top)));
        let chosen_raw = raw.is_some().then(|| row.to_vec());
        for (id, bias) in &self.params.logit_bias {
            if let Some(value) = row.get_mut(*id as usize) {
                *value += bias;
            }
        }
        self.counts.apply(&self.params, row);
        if let Some(mask) = mask {
            choose::apply_mask(row, mask);
        }
        let draw = || uniform(self.seed, position as u64);
        let id =
            choose::choose(row, &self.params, draw, &mut self.scratch).ok_or(SampleError::NothingAllowed)?;
        self.counts.add(&self.params, id);
        let logprobs = raw.zip(chosen_raw).map(|(raw, values)| raw.with_chosen(id, values[id as usize]));
        Ok(Sample { id, logprobs })
    }
}

/// Adds the tokens' bytes to log-probabilities.
pub(crate) fn with_bytes(row: RowLogprobs, bytes: impl Fn(u32) -> Vec<u8>) -> TokenLogprob {
    let choice = |(id, logprob): (u32, f32)| crate::Choice { id, bytes: bytes(id), logprob };
    TokenLogprob { chosen: choice(row.chosen), top: row.top.into_iter().map(choice).collect() }
}
