//! Classifier-free guidance (Ho & Salimans 2022): two predictions a step, with and without the prompt.

use tch::Tensor;

/// Most bytes of one prompt's activations for which both prompts are computed in one batch; beyond that, a batch of two
/// gains no speed for the memory it needs.
const BATCH_BYTES: i64 = 512 << 20;

/// The conditioning of a transformer (`C`: for example keys and values of prompts), with or without guidance.
pub enum GuidedContext<C> {
    /// No guidance: the prompt only.
    Unguided(C),
    /// Prompt and negative prompt as one batch of two.
    Batched(C),
    /// One prediction for each prompt.
    Separate {
        /// Of the prompt.
        prompt: C,
        /// Of the negative prompt.
        negative: C,
    },
}

impl<C> GuidedContext<C> {
    /// Makes the contexts of a prompt and, with guidance, a negative prompt by `context(batch of embeddings)`.
    /// `activation_bytes`: size of the widest activations for one prompt; decides between [`Self::Batched`] and
    /// [`Self::Separate`].
    pub fn new(
        prompt: &Tensor,
        negative: Option<&Tensor>,
        activation_bytes: i64,
        context: impl Fn(&[&Tensor]) -> C,
    ) -> Self {
        match negative {
            None => Self::Unguided(context(&[prompt])),
            Some(negative) if activation_bytes <= BATCH_BYTES => Self::Batched(context(&[prompt, negative])),
            Some(negative) => Self::Separate { prompt: context(&[prompt]), negative: context(&[negative]) },
        }
    }

    /// The prediction with guidance of strength `scale`; `predict(context)`: `[prompts of the context, …]`.
    pub fn predict(&self, scale: f64, predict: impl Fn(&C) -> Tensor) -> Tensor {
        match self {
            Self::Unguided(context) => predict(context),
            Self::Batched(context) => {
                let both = predict(context);
                guided(&both.narrow(0, 0, 1), &both.narrow(0, 1, 1), scale)
            }
            Self::Separate { prompt, negative } => guided(&predict(prompt), &predict(negative), scale),
        }
    }
}

/// `negative + scale · (prompt − negative)`.
pub fn guided(prompt: &Tensor, negative: &Tensor, scale: f64) -> Tensor {
    negative.lerp(prompt, scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A context is the sum of its prompts' embeddings, one row each.
    fn predicted(negative: Option<f64>, activation_bytes: i64) -> (&'static str, Vec<f64>) {
        let negative = negative.map(|value| Tensor::from_slice(&[value]));
        let context =
            GuidedContext::new(&Tensor::from_slice(&[5.0]), negative.as_ref(), activation_bytes, |prompts| {
                Tensor::stack(prompts, 0)
            });
        let kind = match &context {
            GuidedContext::Unguided(_) => "unguided",
            GuidedContext::Batched(_) => "batched",
            GuidedContext::Separate { .. } => "separate",
        };
        let prediction = context.predict(3.0, Tensor::shallow_clone).flatten(0, -1);
        (kind, Vec::try_from(prediction).expect("a vector"))
    }

    #[test]
    fn batched_and_separate_predictions_agree() {
        assert_eq!(predicted(None, 0), ("unguided", vec![5.0]));
        assert_eq!(predicted(Some(2.0), BATCH_BYTES), ("batched", vec![11.0]));
        assert_eq!(predicted(Some(2.0), BATCH_BYTES + 1), ("separate", vec![11.0]));
    }
}
