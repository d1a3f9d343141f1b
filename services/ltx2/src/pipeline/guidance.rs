//! The guidances of LTX-2, combined on predictions of the clean latents, as diffusers' `LTX2Pipeline` does.

use videosdgx_tensor::{Kind, Tensor};

/// Strengths of the guidances of one modality.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GuidanceScales {
    /// Classifier-free guidance (Ho & Salimans 2022); 1 is none.
    pub text: f64,
    /// Spatio-temporal guidance (Hyung et al. 2024): away from a prediction without self-attention in one block; 0 is none.
    pub perturbed: f64,
    /// Away from a prediction in which picture and sound do not attend to each other; 1 is none.
    pub isolated: f64,
    /// Share of the rescaling to the deviation of the unguided prediction (Lin et al. 2023); 0 is none.
    pub rescale: f64,
}

impl GuidanceScales {
    /// Classifier-free guidance only.
    #[must_use]
    pub fn text(scale: f64) -> Self {
        Self { text: scale, perturbed: 0.0, isolated: 1.0, rescale: 0.0 }
    }
}

/// Predictions of one modality's clean latents, `[1, tokens, channels]` f32.
pub(super) struct Predictions {
    /// With the prompt.
    pub(super) prompt: Tensor,
    /// With the negative prompt.
    pub(super) negative: Option<Tensor>,
    /// With the prompt, perturbed.
    pub(super) perturbed: Option<Tensor>,
    /// With the prompt, without attention between the modalities.
    pub(super) isolated: Option<Tensor>,
}

impl Predictions {
    /// The guided prediction.
    pub(super) fn guided(&self, scales: GuidanceScales) -> Tensor {
        let Self { prompt, negative, perturbed, isolated } = self;
        let away =
            [(negative, scales.text - 1.0), (perturbed, scales.perturbed), (isolated, scales.isolated - 1.0)];
        let guided = away
            .into_iter()
            .filter_map(|(other, scale)| Some((other.as_ref()?, scale)))
            .filter(|(_, scale)| *scale != 0.0)
            .fold(prompt.shallow_clone(), |guided, (other, scale)| guided + (prompt - other) * scale);
        if scales.rescale > 0.0 { rescaled(&guided, prompt, scales.rescale) } else { guided }
    }
}

/// `guided` moved by `share` towards the standard deviation of `prompt`.
fn rescaled(guided: &Tensor, prompt: &Tensor, share: f64) -> Tensor {
    let deviation = |tensor: &Tensor| {
        let dims: Vec<i64> = (1..tensor.dim() as i64).collect();
        tensor.std_dim(dims.as_slice(), true, true)
    };
    guided * (deviation(prompt) / deviation(guided) * share + (1.0 - share))
}

/// `sample − sigma · velocity`: the clean latents that a velocity means.
pub(super) fn clean(sample: &Tensor, velocity: &Tensor, sigma: f64) -> Tensor {
    sample - velocity.to_kind(Kind::Float) * sigma
}

/// `(sample − clean) / sigma`: the inverse of [`clean`].
pub(super) fn velocity(sample: &Tensor, clean: &Tensor, sigma: f64) -> Tensor {
    (sample - clean) / sigma
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(tensor: Tensor) -> Vec<f64> {
        Vec::try_from(tensor.to_kind(Kind::Double).flatten(0, -1)).expect("a vector")
    }

    #[test]
    fn every_guidance_moves_away_from_its_own_prediction() {
        let tensor = |value: f64| Some(Tensor::from_slice(&[value, value + 1.0]).view([1, 2, 1]));
        let predictions = |negative, perturbed, isolated| Predictions {
            prompt: tensor(10.0).expect("a tensor"),
            negative,
            perturbed,
            isolated,
        };
        let scales = GuidanceScales { text: 3.0, perturbed: 0.5, isolated: 2.0, rescale: 0.0 };
        let guided = |predictions: Predictions| values(predictions.guided(scales));
        assert_eq!(guided(predictions(None, None, None)), [10.0, 11.0]);
        assert_eq!(guided(predictions(tensor(9.0), None, None)), [12.0, 13.0]);
        assert_eq!(guided(predictions(None, tensor(8.0), None)), [11.0, 12.0]);
        assert_eq!(guided(predictions(None, None, tensor(7.0))), [13.0, 14.0]);
        assert_eq!(guided(predictions(tensor(9.0), tensor(8.0), tensor(7.0))), [16.0, 17.0]);
    }

    #[test]
    fn rescaling_keeps_the_deviation_of_the_prompts_prediction() {
        let prompt = Tensor::from_slice(&[1.0, 2.0, 4.0]).view([1, 3, 1]);
        let predictions =
            Predictions { negative: Some(&prompt * 0.5), perturbed: None, isolated: None, prompt };
        let rescale = |share| {
            values(predictions.guided(GuidanceScales { rescale: share, ..GuidanceScales::text(3.0) }))
        };
        // Guided: twice the prompt's prediction.
        for (got, want) in rescale(1.0).iter().zip([1.0, 2.0, 4.0]) {
            assert!((got - want).abs() < 1e-12, "{got} {want}");
        }
        for (got, want) in rescale(0.5).iter().zip([1.5, 3.0, 6.0]) {
            assert!((got - want).abs() < 1e-12, "{got} {want}");
        }
    }
}
