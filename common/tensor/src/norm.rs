//! Normalisations, computed in f32 for every element type of the activations.

use half::bf16;
use tch::{Device, Kind, Tensor};

use crate::host::{self, HostFloat};
use crate::{RowModulation, TensorError, Weights, parallel, simd};

/// Layer normalisation over the last dimension: statistics, scale and shift in f32, result in the input's type.
pub struct LayerNorm {
    weight: Option<Tensor>,
    bias: Option<Tensor>,
    width: i64,
    eps: f64,
}

impl LayerNorm {
    /// A normalisation without weight and bias.
    pub fn without_affine(width: i64, eps: f64) -> Self {
        Self { weight: None, bias: None, width, eps }
    }

    /// Loads `weight` and `bias` `[width]` from the checkpoint, in f32.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn load(weights: &Weights, width: i64, eps: f64) -> Result<Self, TensorError> {
        let weight = Some(weights.tensor_as("weight", &[width], Kind::Float)?);
        let bias = Some(weights.tensor_as("bias", &[width], Kind::Float)?);
        Ok(Self { weight, bias, width, eps })
    }

    /// `[…, width]` → `[…, width]`.
    pub fn forward(&self, input: &Tensor) -> Tensor {
        layer_norm(input, self.width, self.weight.as_ref(), self.bias.as_ref(), self.eps)
    }

    /// Adaptive normalisation (Peebles & Xie 2022): `norm(x) · (1 + scale) + shift`. For normalisations without weight
    /// and bias.
    pub fn modulated(&self, input: &Tensor, modulation: RowModulation<'_>) -> Tensor {
        match modulation.vectors() {
            (one_plus_scale, shift, None) => {
                layer_norm(input, self.width, Some(&one_plus_scale), Some(&shift), self.eps)
            }
            (one_plus_scale, shift, Some(rows)) => {
                let normed = layer_norm(&input.to_kind(Kind::Float), self.width, None, None, self.eps);
                let picked = |table: &Tensor| table.index_select(0, rows);
                (normed * picked(&one_plus_scale) + picked(&shift)).to_kind(input.kind())
            }
        }
    }
}

fn layer_norm(
    input: &Tensor,
    width: i64,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Tensor {
    let kind = input.kind();
    // libtorch's CPU kernel accepts 16-bit activations with f32 weights and computes in f32: one pass, no copies.
    if kind == Kind::Float || (weight.is_some() && input.device() == Device::Cpu) {
        return input.layer_norm([width], weight, bias, eps, false);
    }
    input.to_kind(Kind::Float).layer_norm([width], weight, bias, eps, false).to_kind(kind)
}

/// Root mean square normalisation (Zhang & Sennrich 2019) over the last dimension.
pub struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    /// A normalisation with `weight` `[width]` in f32.
    pub fn new(weight: Tensor, eps: f64) -> Self {
        Self { weight: weight.to_kind(Kind::Float), eps }
    }

    /// Loads `weight` `[width]` from the checkpoint.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn load(weights: &Weights, width: i64, eps: f64) -> Result<Self, TensorError> {
        Ok(Self { weight: weights.tensor_as("weight", &[width], Kind::Float)?, eps })
    }

    /// The weight, `[width]` f32.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The epsilon added under the square root.
    pub fn eps(&self) -> f64 {
        self.eps
    }

    /// `x / √(mean(x²) + eps) · weight` in f32, result in the input's type.
    pub fn forward(&self, input: &Tensor) -> Tensor {
        let wide = input.to_kind(Kind::Float);
        let mean = (&wide * &wide).mean_dim([-1i64].as_slice(), true, Kind::Float);
        (wide * (mean + self.eps).rsqrt() * &self.weight).to_kind(input.kind())
    }
}

/// `norm(x) · (1 + scale) + shift` with the root mean square normalisation without a weight, in f32, in one pass;
/// `norm(x)` without a modulation.
///
/// `[batch, length, width]` → the same shape and type.
pub fn rms_modulated(input: &Tensor, eps: f64, modulation: Option<RowModulation<'_>>) -> Tensor {
    let ours = input.device() == Device::Cpu
        && input.is_contiguous()
        && modulation.is_none_or(|modulation| modulation.is_contiguous());
    match input.kind() {
        Kind::BFloat16 if ours => rms_on_host::<bf16>(input, eps as f32, modulation),
        Kind::Float if ours => rms_on_host::<f32>(input, eps as f32, modulation),
        kind => {
            let wide = input.to_kind(Kind::Float);
            let mean = (&wide * &wide).mean_dim([-1i64].as_slice(), true, Kind::Float);
            let normed = wide * (mean + eps).rsqrt();
            let Some(modulation) = modulation else { return normed.to_kind(kind) };
            let (one_plus_scale, shift, rows) = modulation.vectors();
            let picked = |table: Tensor| match rows {
                Some(rows) => table.index_select(0, rows),
                None => table,
            };
            (normed * picked(one_plus_scale) + picked(shift)).to_kind(kind)
        }
    }
}

fn rms_on_host<T: HostFloat>(input: &Tensor, eps: f32, modulation: Option<RowModulation<'_>>) -> Tensor {
    let output = Tensor::empty_like(input);
    let size = input.size();
    let width = size.last().map_or(1, |&width| usize::try_from(width).unwrap_or(1)).max(1);
    let modulation = modulation.map(|modulation| modulation.on_host(&size));
    let values = host::slice::<T>(input);
    parallel::rows(host::slice_mut::<T>(&output), width, |first, output| {
        let mut wide = vec![0f32; width];
        for (row, output) in output.chunks_mut(width).enumerate() {
            let row = first + row;
            let values = &values[row * width..(row + 1) * width];
            let vectors = modulation.as_ref().map(|modulation| modulation.of(row));
            simd::vectorized(|| {
                widen(values, &mut wide);
                let factor = inverse_rms(&wide, eps);
                match vectors {
                    Some((scale, shift)) => {
                        let vectors = scale.iter().zip(shift);
                        for ((to, wide), (scale, shift)) in output.iter_mut().zip(&wide).zip(vectors) {
                            *to = T::narrow(wide * factor * scale + shift);
                        }
                    }
                    None => {
                        output.iter_mut().zip(&wide).for_each(|(to, wide)| *to = T::narrow(wide * factor));
                    }
                }
            });
        }
    });
    output
}

/// Converts a row to f32.
#[inline(always)]
pub(crate) fn widen<T: HostFloat>(values: &[T], wide: &mut [f32]) {
    for (wide, value) in wide.iter_mut().zip(values) {
        *wide = value.widen();
    }
}

/// `1 / √(mean(values²) + eps)`.
#[inline(always)]
pub(crate) fn inverse_rms(values: &[f32], eps: f32) -> f32 {
    const LANES: usize = 16;
    // Separate sums, so that the additions do not depend on one another.
    let mut sums = [0f32; LANES];
    let pieces = values.chunks_exact(LANES);
    let rest: f32 = pieces.remainder().iter().map(|value| value * value).sum();
    for piece in pieces {
        for (sum, value) in sums.iter_mut().zip(piece) {
            *sum += value * value;
        }
    }
    let mean = (sums.iter().sum::<f32>() + rest) / values.len() as f32;
    1.0 / (mean + eps).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(Kind::Float, 1e-6)]
    #[case(Kind::BFloat16, 5e-3)]
    #[case(Kind::Half, 1e-3)]
    fn each_position_takes_its_row_of_the_modulation(
        #[case] kind: Kind,
        #[case] bound: f64,
        #[values(1, 3)] choices: i64,
    ) {
        tch::manual_seed(4);
        let (length, width) = (500, 130);
        let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
        let input = random(&[2, length, width]).to_kind(kind);
        let (scale, shift) = (random(&[choices, width]), random(&[choices, width]));
        let rows = Tensor::randint(choices, [length], (Kind::Int64, Device::Cpu));
        let rows = (choices > 1).then_some(&rows);
        let modulation = RowModulation::new(&scale, &shift, rows);
        let picked = |table: &Tensor| match rows {
            Some(rows) => Tensor::stack(
                &(0..length).map(|at| table.select(0, rows.int64_value(&[at]))).collect::<Vec<_>>(),
                0,
            ),
            None => table.shallow_clone(),
        };
        let wide = input.to_kind(Kind::Double);
        let rms = &wide / (wide.square().mean_dim([-1i64].as_slice(), true, Kind::Double) + 1e-6).sqrt();
        let centred = wide.layer_norm([width], None::<&Tensor>, None::<&Tensor>, 1e-6, false);
        let modulated = |normed: &Tensor| normed * picked(&scale) + picked(&shift);
        for (ours, theirs) in [
            (rms_modulated(&input, 1e-6, Some(modulation)), modulated(&rms)),
            (rms_modulated(&input, 1e-6, None), rms.shallow_clone()),
            (LayerNorm::without_affine(width, 1e-6).modulated(&input, modulation), modulated(&centred)),
        ] {
            assert_eq!(ours.kind(), kind);
            let error = (ours.to_kind(Kind::Double) - &theirs).norm() / theirs.norm();
            assert!(f64::try_from(&error).expect("a number") < bound, "{error:?}");
        }
    }
}
