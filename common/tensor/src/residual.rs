//! The gated residual connection of diffusion transformers.

use half::bf16;
use tch::{Device, Kind, Tensor};

use crate::host::{self, HostFloat};
use crate::row_modulation::HostRows;
use crate::{parallel, simd};

/// `hidden + branch · gate`, computed in f32, in the type of `hidden`, whose memory is reused for the result where a
/// kernel of this crate computes it.
///
/// `hidden`, `branch`: `[…, length, width]` of one type; `gate`: `[width]` f32, or `[choices, width]` with `rows`
/// Int64 `[length]`: which of them each position takes.
pub fn gated_add(hidden: Tensor, branch: &Tensor, gate: &Tensor, rows: Option<&Tensor>) -> Tensor {
    let fits = hidden.device() == Device::Cpu
        && hidden.is_contiguous()
        && branch.is_contiguous()
        && gate.is_contiguous()
        && branch.kind() == hidden.kind()
        && branch.numel() == hidden.numel();
    match hidden.kind() {
        Kind::BFloat16 if fits => add::<bf16>(&hidden, branch, gate, rows),
        Kind::Float if fits => add::<f32>(&hidden, branch, gate, rows),
        kind => {
            let gate = match (rows, gate.dim()) {
                (Some(rows), _) => gate.index_select(0, rows),
                (None, 2..) => gate.select(0, 0),
                _ => gate.shallow_clone(),
            };
            return (hidden.to_kind(Kind::Float) + branch * gate).to_kind(kind);
        }
    }
    hidden
}

fn add<T: HostFloat>(hidden: &Tensor, branch: &Tensor, gate: &Tensor, rows: Option<&Tensor>) {
    let size = hidden.size();
    let width = size.last().map_or(1, |&width| usize::try_from(width).unwrap_or(1)).max(1);
    let (branch, gate) = (host::slice::<T>(branch), host::slice::<f32>(gate));
    let choices = HostRows::new(rows, &size, gate.len());
    parallel::rows(host::slice_mut::<T>(hidden), width, |first, hidden| {
        let rows = hidden.chunks_mut(width).zip(branch[first * width..].chunks(width)).enumerate();
        simd::vectorized(|| {
            for (row, (hidden, branch)) in rows {
                let gate = &gate[choices.of(first + row)];
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
    fn agrees_with_libtorch(#[case] kind: Kind, #[case] bound: f64, #[values(true, false)] chosen: bool) {
        tch::manual_seed(3);
        let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu)).to_kind(kind);
        let (hidden, branch) = (random(&[2, 700, 384]), random(&[2, 700, 384]));
        let gate = Tensor::randn([3, 384], (Kind::Float, Device::Cpu));
        let rows = Tensor::randint(3, [700], (Kind::Int64, Device::Cpu));
        let (gate, rows, picked) = match chosen {
            true => (gate.shallow_clone(), Some(&rows), gate.index_select(0, &rows)),
            false => (gate.select(0, 1), None, gate.select(0, 1)),
        };
        let expected = hidden.to_kind(Kind::Float) + branch.to_kind(Kind::Float) * &picked;
        let result = gated_add(hidden, &branch, &gate, rows);
        assert_eq!(result.kind(), kind);
        let error = (result.to_kind(Kind::Float) - &expected).norm() / expected.norm();
        assert!(f64::try_from(&error).expect("a number") < bound, "{error:?}");
    }
}
