//! Root mean square normalisation as language models do it, alone and together with the residual addition before it.

use tch::{Kind, Tensor};

/// `x / √(mean(x²) + eps)` in f32, rounded to the input's type, then times `weight`.
///
/// `input`: `[…, width]` f32, bf16 or f16; `weight`: `[width]` in any floating type → as `input`, contiguous.
pub fn rms_norm(input: &Tensor, weight: &Tensor, eps: f64) -> Tensor {
    by_libtorch(input, weight, eps)
}

/// Adds `branch` to `hidden` in place, and gives the norm of the sum as [`rms_norm`] does.
///
/// `hidden`, `branch`: `[…, width]` of one type and shape; `hidden` is contiguous.
pub fn add_rms_norm(hidden: &mut Tensor, branch: &Tensor, weight: &Tensor, eps: f64) -> Tensor {
    let _sum = hidden.g_add_(branch);
    by_libtorch(hidden, weight, eps)
}

fn by_libtorch(input: &Tensor, weight: &Tensor, eps: f64) -> Tensor {
    let wide = input.to_kind(Kind::Float);
    let mean = (&wide * &wide).mean_dim([-1i64].as_slice(), true, Kind::Float);
    (wide * (mean + eps).rsqrt()).to_kind(input.kind()) * weight.to_kind(input.kind())
}
