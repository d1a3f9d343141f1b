//! Root mean square normalisation as language models compute it, alone or after a residual addition.

use half::{bf16, f16};
use tch::{Device, Kind, Tensor};

use super::lanes::{Kernel, LaneFloat, Lanes, Level, dispatch};
use super::pool::{self, SharedMut};
use crate::host;

/// Smallest number of elements that are divided among threads.
const WORTH_A_THREAD: usize = 1 << 15;

/// `x / √(mean(x²) + eps)` in f32, rounded to the input's type, then multiplied by `weight`.
///
/// `input`: `[…, width]` f32, bf16 or f16; `weight`: `[width]` in any floating type → as `input`, contiguous.
pub fn rms_norm(input: &Tensor, weight: &Tensor, eps: f64) -> Tensor {
    if input.device() != Device::Cpu {
        return by_libtorch(input, weight, eps);
    }
    let input = input.contiguous();
    match input.kind() {
        Kind::BFloat16 => on_host::<bf16>(Level::detect(), &input, None, weight, eps),
        Kind::Half => on_host::<f16>(Level::detect(), &input, None, weight, eps),
        Kind::Float => on_host::<f32>(Level::detect(), &input, None, weight, eps),
        _ => by_libtorch(&input, weight, eps),
    }
}

/// Adds `branch` to `hidden` in place, and returns the normalised sum as [`rms_norm`] does.
///
/// `hidden`, `branch`: `[…, width]` of one type and shape.
pub fn add_rms_norm(hidden: &mut Tensor, branch: &Tensor, weight: &Tensor, eps: f64) -> Tensor {
    let ours = hidden.device() == Device::Cpu
        && hidden.is_contiguous()
        && branch.kind() == hidden.kind()
        && branch.size() == hidden.size();
    let branch = if ours { branch.contiguous() } else { branch.shallow_clone() };
    match hidden.kind() {
        Kind::BFloat16 if ours => on_host::<bf16>(Level::detect(), hidden, Some(&branch), weight, eps),
        Kind::Half if ours => on_host::<f16>(Level::detect(), hidden, Some(&branch), weight, eps),
        Kind::Float if ours => on_host::<f32>(Level::detect(), hidden, Some(&branch), weight, eps),
        _ => {
            let _sum = hidden.g_add_(&branch);
            by_libtorch(hidden, weight, eps)
        }
    }
}

fn by_libtorch(input: &Tensor, weight: &Tensor, eps: f64) -> Tensor {
    let wide = input.to_kind(Kind::Float);
    let mean = (&wide * &wide).mean_dim([-1i64].as_slice(), true, Kind::Float);
    (wide * (mean + eps).rsqrt()).to_kind(input.kind()) * weight.to_kind(input.kind())
}

/// `hidden` is written only if there is a `branch`.
fn on_host<T: LaneFloat>(
    level: Level,
    hidden: &Tensor,
    branch: Option<&Tensor>,
    weight: &Tensor,
    eps: f64,
) -> Tensor {
    let output = Tensor::empty(hidden.size(), (T::KIND, Device::Cpu));
    let weight = weight.to_kind(T::KIND).contiguous();
    let weight = host::slice::<T>(&weight);
    let width = weight.len();
    let elements = hidden.numel();
    assert!(width > 0 && elements.is_multiple_of(width), "{elements} elements, a weight of {width}");
    let branch = branch.map(host::slice::<T>);
    let hidden = SharedMut::from_ptr(hidden.data_ptr().cast::<T>());
    let to = SharedMut::new(host::slice_mut::<T>(&output));
    let rows = elements / width;
    let pieces = (elements / WORTH_A_THREAD).clamp(1, 4 * pool::threads());
    let step = rows.div_ceil(pieces).max(1);
    pool::run(rows.div_ceil(step), |piece| {
        for row in piece * step..rows.min((piece + 1) * step) {
            let first = row * width;
            let branch = branch.map(|branch| &branch[first..first + width]);
            // SAFETY: contiguous memory of `elements` elements of this type, as the caller checked; no other piece
            // has this row, and `hidden` is written only for a caller that owns it.
            let (hidden, output) = unsafe { (hidden.slice(first, width), to.slice(first, width)) };
            dispatch(level, Row { hidden, branch, weight, eps: eps as f32, output });
        }
    });
    output
}

/// One row; all slices have the same length.
struct Row<'a, T> {
    /// Written only if there is a branch.
    hidden: &'a mut [T],
    branch: Option<&'a [T]>,
    weight: &'a [T],
    eps: f32,
    output: &'a mut [T],
}

impl<T: LaneFloat> Kernel for Row<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { hidden, branch, weight, eps, output } = self;
        let width = hidden.len();
        assert!(
            weight.len() == width
                && output.len() == width
                && branch.is_none_or(|branch| branch.len() == width)
        );
        let whole = width / 16 * 16;
        // SAFETY: full registers end at `whole`, the rest is accessed with its number of elements; `dispatch` chose a
        // level that the CPU has.
        unsafe {
            if let Some(branch) = branch {
                for at in (0..whole).step_by(16) {
                    let to = hidden.as_mut_ptr().add(at);
                    T::store::<L>(to, L::add(T::load::<L>(to), T::load::<L>(branch.as_ptr().add(at))));
                }
                for (to, branch) in hidden[whole..].iter_mut().zip(&branch[whole..]) {
                    *to = T::narrow(to.widen() + branch.widen());
                }
            }
            // Separate sums, so that the additions do not depend on one another.
            let mut sums = [L::splat(0.0); 4];
            let mut at = 0;
            while at + 64 <= whole {
                for (index, sum) in sums.iter_mut().enumerate() {
                    let value = T::load::<L>(hidden.as_ptr().add(at + 16 * index));
                    *sum = L::fma(value, value, *sum);
                }
                at += 64;
            }
            while at < whole {
                let value = T::load::<L>(hidden.as_ptr().add(at));
                sums[0] = L::fma(value, value, sums[0]);
                at += 16;
            }
            if whole < width {
                let value = T::load_some::<L>(hidden.as_ptr().add(whole), width - whole);
                sums[1] = L::fma(value, value, sums[1]);
            }
            let sum = L::sum(L::add(L::add(sums[0], sums[1]), L::add(sums[2], sums[3])));
            let factor = 1.0 / (sum / width as f32 + eps).sqrt();
            let wide = L::splat(factor);
            for at in (0..whole).step_by(16) {
                let to = output.as_mut_ptr().add(at);
                T::store::<L>(to, L::mul(T::load::<L>(hidden.as_ptr().add(at)), wide));
                T::store::<L>(to, L::mul(T::load::<L>(to), T::load::<L>(weight.as_ptr().add(at))));
            }
            for at in whole..width {
                let normed = T::narrow(hidden[at].widen() * factor);
                output[at] = T::narrow(normed.widen() * weight[at].widen());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::relative_error;
    use rstest::rstest;

    #[rstest]
    fn agrees_with_libtorch(
        #[values((Kind::Float, 1e-6), (Kind::BFloat16, 3e-3), (Kind::Half, 4e-4))] kind: (Kind, f64),
        #[values((1, 576), (3, 64), (5, 37), (2, 16), (7, 4), (90, 1000))] size: (i64, i64),
        #[values(true, false)] add: bool,
    ) {
        tch::manual_seed(31);
        let (kind, bound) = kind;
        let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu)).to_kind(kind);
        let (input, branch, weight) =
            (random(&[size.0, size.1]), random(&[size.0, size.1]), random(&[size.1]));
        let sum = if add { &input + &branch } else { input.copy() };
        let expected = by_libtorch(&sum, &weight, 1e-5);
        for level in Level::available() {
            let hidden = input.copy();
            let branch = add.then_some(&branch);
            let result = match kind {
                Kind::BFloat16 => on_host::<bf16>(level, &hidden, branch, &weight, 1e-5),
                Kind::Half => on_host::<f16>(level, &hidden, branch, &weight, 1e-5),
                _ => on_host::<f32>(level, &hidden, branch, &weight, 1e-5),
            };
            assert_eq!(hidden, sum, "{level:?}");
            let error = relative_error(&result, &expected);
            assert!(error < bound, "{level:?}: {error}");
        }
        let mut hidden = input.copy();
        let public = if add {
            add_rms_norm(&mut hidden, &branch, &weight, 1e-5)
        } else {
            rms_norm(&input, &weight, 1e-5)
        };
        assert!(relative_error(&public, &expected) < bound && public.kind() == kind);
    }

    #[test]
    fn a_row_is_the_same_alone() {
        tch::manual_seed(32);
        let input = Tensor::randn([200, 576], (Kind::Float, Device::Cpu));
        let weight = Tensor::randn([576], (Kind::Float, Device::Cpu));
        let all = rms_norm(&input, &weight, 1e-6);
        assert_eq!(rms_norm(&input.narrow(0, 77, 1), &weight, 1e-6), all.narrow(0, 77, 1));
    }
}
