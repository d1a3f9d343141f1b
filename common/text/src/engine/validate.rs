//! Validation of requests before they are queued.

use super::SubmitError;
use crate::{GenerationRequest, SamplingParams};

/// Checks every field that the engine depends on.
pub(super) fn check(
    request: &GenerationRequest,
    vocab: usize,
    max_context: usize,
) -> Result<(), SubmitError> {
    let prompt = &request.prompt;
    if prompt.tokens.is_empty() {
        return invalid("prompt", "must have at least one token");
    }
    if let Some(id) = prompt.tokens.iter().find(|id| **id as usize >= vocab) {
        return invalid("prompt", format!("token {id} is not in the vocabulary of {vocab}"));
    }
    if prompt.tokens.len() >= max_context {
        return Err(SubmitError::ContextExceeded { prompt_tokens: prompt.tokens.len(), max_context });
    }
    let mut after = 0;
    for image in &prompt.images {
        let end = image.position.checked_add(image.tokens);
        match end {
            Some(end) if image.position >= after && end <= prompt.tokens.len() => after = end,
            _ => {
                return invalid(
                    "prompt",
                    "the placeholders of an image are outside the prompt or out of order",
                );
            }
        }
    }
    if request.stop.max_tokens == 0 {
        return invalid("max_tokens", "at least 1");
    }
    if request.priority > 9 {
        return invalid("priority", "0 to 9");
    }
    sampling(&request.sampling)
}

fn sampling(params: &SamplingParams) -> Result<(), SubmitError> {
    let finite_from = |value: f32, least: f32| value.is_finite() && value >= least;
    if !finite_from(params.temperature, 0.0) {
        return invalid("temperature", "0 or more");
    }
    if !(params.top_p > 0.0 && params.top_p <= 1.0) {
        return invalid("top_p", "over 0, at most 1");
    }
    if !(0.0..=1.0).contains(&params.min_p) {
        return invalid("min_p", "0 to 1");
    }
    if !(params.repetition_penalty.is_finite() && params.repetition_penalty > 0.0) {
        return invalid("repetition_penalty", "over 0");
    }
    if !params.presence_penalty.is_finite() {
        return invalid("presence_penalty", "a number");
    }
    if !params.frequency_penalty.is_finite() {
        return invalid("frequency_penalty", "a number");
    }
    if params.logit_bias.values().any(|bias| !bias.is_finite()) {
        return invalid("logit_bias", "numbers");
    }
    Ok(())
}

fn invalid(field: &'static str, reason: impl Into<String>) -> Result<(), SubmitError> {
    Err(SubmitError::Invalid { field, reason: reason.into() })
}
