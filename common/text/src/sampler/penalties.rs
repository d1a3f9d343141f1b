//! Penalties for tokens that occurred before.

use std::collections::HashMap;

use crate::SamplingParams;

/// Numbers of occurrences of tokens in a sequence, as far as a penalty needs them.
#[derive(Debug, Default)]
pub(super) struct TokenCounts {
    /// Occurrences in the output; 0 for tokens that occur only in the prompt.
    counts: HashMap<u32, u32>,
}

impl TokenCounts {
    pub(super) fn new(params: &SamplingParams, prompt: &[u32]) -> Self {
        let counts = if params.repetition_penalty == 1.0 {
            HashMap::new()
        } else {
            prompt.iter().map(|id| (*id, 0)).collect()
        };
        Self { counts }
    }

    pub(super) fn add(&mut self, params: &SamplingParams, id: u32) {
        let counted = params.repetition_penalty != 1.0
            || params.presence_penalty != 0.0
            || params.frequency_penalty != 0.0;
        if counted {
            *self.counts.entry(id).or_default() += 1;
        }
    }

    /// Applies the repetition penalty (prompt and output), then frequency and presence penalties (output only).
    pub(super) fn apply(&self, params: &SamplingParams, row: &mut [f32]) {
        for (id, count) in &self.counts {
            let Some(value) = row.get_mut(*id as usize) else { continue };
            if *value > 0.0 {
                *value /= params.repetition_penalty;
            } else {
                *value *= params.repetition_penalty;
            }
            if *count > 0 {
                *value -= params.frequency_penalty * *count as f32 + params.presence_penalty;
            }
        }
    }
}
