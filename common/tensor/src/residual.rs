//! The gated residual connection of diffusion transformers.

use half::bf16;
use tch::{Device, Kind, Tensor};

use crate::host::{self, HostFloat};
use crate::{parallel, simd};

/// `hidden + branch · gate`, computed in f32, in the type of `hidden`, whose memory is reused for the result.
///
/// `hidden`, `branch`: `[…, width]` of one type; `gate`: `[width]` f32.
pub fn gated_add(hidden: Tensor, branch: &Tensor, gate: &Tensor) -> Tensor {
    let fits = hidden.device() == Device::Cpu
        && hidden.is_contiguous()
        && branch.is_contiguous()
        && gate.is_contiguous()
        && branch.kind() == hidden.kind()
        && branch.numel() == hidden.numel();
    match hidden.kind() {
        Kind::BFloat16 if fits => add::<bf16>(&hidden, branch, gate),
        Kind::Float if fits => add::<f32>(&hidden, branch, gate),
        kind => return (hidden.to_kind(Kind::Float) + branch * gate).to_kind(kind),
    }
    hidden
}

fn add<T: HostFloat>(hidden: &Tensor, branch: &Tensor, gate: &Tensor) {
    let (branch, gate) = (host::slice::<T>(branch), host::slice::<f32>(gate));
    let width = gate.len().max(1);
    parallel::rows(host::slice_mut::<T>(hidden), width, |first, hidden| {
        let rows = hidden.chunks_mut(width).zip(branch[first * width..].chunks(width));
        simd::vectorized(|| {
            for (hidden, branch) in rows {
                for ((value, &branch), &gate) in hidden.iter_mut().zip(branch).zip(gate) {
                    *value = T::narrow(value.widen() + branch.widen() * gate);
                }
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(Kind::Float, 1e-6)]
    #[case(Kind::BFloat16, 5e-3)]
    #[case(Kind::Half, 1e-3)]
    fn agrees_with_libtorch(#[case] kind: Kind, #[case] bound: f64) {
        tch::manual_seed(3);
        let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu)).to_kind(kind);
        let (hidden, branch) = (random(&[2, 700, 384]), random(&[2, 700, 384]));
        let gate = Tensor::randn([384], (Kind::Float, Device::Cpu));
        let expected = hidden.to_kind(Kind::Float) + branch.to_kind(Kind::Float) * &gate;
        let result = gated_add(hidden, &branch, &gate);
        assert_eq!(result.kind(), kind);
        let error = (result.to_kind(Kind::Float) - &expected).norm() / expected.norm();
        assert!(f64::try_from(&error).expect("a number") < bound, "{error:?}");
    }
}
