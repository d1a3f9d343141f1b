//! How the next token is chosen from a row of logits.
//!
//! Order, as in transformers: bias, penalties, masks (padding, constraint), temperature, top-k, top-p, min-p, choice. The choice
//! needs one random number, a function of the seed and the token's position alone: the same seed gives the same text
//! whatever else is in the batch, after preemption, and when a step is tried again.

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

/// Why no token can be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SampleError {
    /// The row has no usable value.
    NoLogits,
    /// The constraint allows none.
    NothingAllowed,
}

/// What the choice of the next token needs of one sequence.
#[derive(Debug)]
pub(crate) struct Sampler {
    params: SamplingParams,
    seed: u64,
    /// Ids at or above it are padding.
    vocab: usize,
    logprobs: Option<u8>,
    seen: penalties::Seen,
    room: choose::Room,
}

/// A chosen token.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sampled {
    pub(crate) id: u32,
    pub(crate) logprobs: Option<RowLogprobs>,
}

impl Sampler {
    /// For a sequence with this prompt.
    pub(crate) fn new(
        params: SamplingParams,
        seed: u64,
        vocab: usize,
        logprobs: Option<u8>,
        prompt: &[u32],
    ) -> Self {
        let seen = penalties::Seen::new(&params, prompt);
        Self { params, seed, vocab, logprobs, seen, room: choose::Room::default() }
    }

    /// Chooses the token number `position` of the output (from 0) from `row`, which it changes. `mask` has the ids that a
    /// constraint allows.
    ///
    /// # Errors
    /// When nothing can be chosen.
    pub(crate) fn sample(
        &mut self,
        row: &mut [f32],
        position: usize,
        mask: Option<&TokenMask>,
    ) -> Result<Sampled, SampleError> {
        let vocab = self.vocab.min(row.len());
        let row = &mut row[..vocab];
        // A value that is no number must not be chosen, nor spoil the comparison of others.
        let mut usable = false;
        for value in row.iter_mut() {
            if value.is_nan() {
                *value = f32::NEG_INFINITY;
            }
            usable |= *value > f32::NEG_INFINITY;
        }
        if !usable {
            return Err(SampleError::NoLogits);
        }
        // Before bias, penalties and masks: what the model itself thinks.
        let raw = self.logprobs.map(|top| logprobs::Raw::of(row, usize::from(top)));
        let chosen_raw = raw.is_some().then(|| row.to_vec());
        for (id, bias) in &self.params.logit_bias {
            if let Some(value) = row.get_mut(*id as usize) {
                *value += bias;
            }
        }
        self.seen.apply(&self.params, row);
        if let Some(mask) = mask {
            choose::apply_mask(row, mask);
        }
        let draw = || uniform(self.seed, position as u64);
        let id =
            choose::choose(row, &self.params, draw, &mut self.room).ok_or(SampleError::NothingAllowed)?;
        self.seen.add(&self.params, id);
        let logprobs = raw.zip(chosen_raw).map(|(raw, values)| raw.with_chosen(id, values[id as usize]));
        Ok(Sampled { id, logprobs })
    }
}

/// Log-probabilities with the tokens' bytes.
pub(crate) fn with_bytes(row: RowLogprobs, bytes: impl Fn(u32) -> Vec<u8>) -> TokenLogprob {
    let choice = |(id, logprob): (u32, f32)| crate::Choice { id, bytes: bytes(id), logprob };
    TokenLogprob { chosen: choice(row.chosen), top: row.top.into_iter().map(choice).collect() }
}
