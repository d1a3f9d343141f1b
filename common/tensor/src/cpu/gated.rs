//! The gated activations of feed-forward networks (Shazeer 2020, "GLU variants improve transformer").

use half::{bf16, f16};
use tch::{Device, Kind, Tensor};

use super::lanes::{Kernel, LaneFloat, Lanes, Level, dispatch};
use super::pool::{self, SharedMut};
use crate::host;

/// Smallest number of elements that are divided among threads.
const WORTH_A_THREAD: usize = 1 << 14;

/// `silu(gate) · up`, computed in f32.
///
/// `gate_up`: `[…, 2·n]` f32, bf16 or f16, gate in the first half → `[…, n]`.
pub fn swiglu(gate_up: &Tensor) -> Tensor {
    gated::<SILU>(gate_up)
}

/// `gelu(gate) · up` with GELU's approximation by tanh (Hendrycks & Gimpel 2016), computed in f32.
///
/// `gate_up`: `[…, 2·n]` f32, bf16 or f16, gate in the first half → `[…, n]`.
pub fn geglu(gate_up: &Tensor) -> Tensor {
    gated::<GELU>(gate_up)
}

/// `√(8/π)`
const ROOT_8_BY_PI: f32 = 1.595_769_2;

/// The activation of the gate: a number, so that the kernel is compiled for each.
const SILU: u8 = 0;
const GELU: u8 = 1;

fn gated<const ACTIVATION: u8>(gate_up: &Tensor) -> Tensor {
    if gate_up.device() != Device::Cpu {
        return by_libtorch::<ACTIVATION>(gate_up);
    }
    let gate_up = gate_up.contiguous();
    match gate_up.kind() {
        Kind::BFloat16 => on_host::<bf16, ACTIVATION>(Level::detect(), &gate_up),
        Kind::Half => on_host::<f16, ACTIVATION>(Level::detect(), &gate_up),
        Kind::Float => on_host::<f32, ACTIVATION>(Level::detect(), &gate_up),
        _ => by_libtorch::<ACTIVATION>(&gate_up),
    }
}

fn by_libtorch<const ACTIVATION: u8>(gate_up: &Tensor) -> Tensor {
    let parts = gate_up.chunk(2, -1);
    let gate = if ACTIVATION == GELU { parts[0].gelu("tanh") } else { parts[0].silu() };
    gate * &parts[1]
}

fn on_host<T: LaneFloat, const ACTIVATION: u8>(level: Level, gate_up: &Tensor) -> Tensor {
    let mut shape = gate_up.size();
    let width = shape.last().map_or(0, |&width| usize::try_from(width / 2).unwrap_or(0));
    if let Some(last) = shape.last_mut() {
        *last /= 2;
    }
    let output = Tensor::empty(shape.as_slice(), (T::KIND, Device::Cpu));
    let (input, shared) = (host::slice::<T>(gate_up), SharedMut::new(host::slice_mut::<T>(&output)));
    let rows = output.numel().checked_div(width).unwrap_or(0);
    assert_eq!(input.len(), 2 * rows * width, "two halves");
    let pieces = (rows * width / WORTH_A_THREAD).clamp(1, 4 * pool::threads());
    let step = rows.div_ceil(pieces).max(1);
    pool::run(rows.div_ceil(step), |piece| {
        for row in piece * step..rows.min((piece + 1) * step) {
            let (gate, up) = input[2 * row * width..2 * (row + 1) * width].split_at(width);
            // SAFETY: no other piece has this row.
            let output = unsafe { shared.slice(row * width, width) };
            dispatch(level, Row::<T, ACTIVATION> { gate, up, output });
        }
    });
    output
}

/// One row; all slices have the same length.
struct Row<'a, T, const ACTIVATION: u8> {
    gate: &'a [T],
    up: &'a [T],
    output: &'a mut [T],
}

impl<T: LaneFloat, const ACTIVATION: u8> Kernel for Row<'_, T, ACTIVATION> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { gate, up, output } = self;
        let width = output.len();
        assert!(gate.len() == width && up.len() == width);
        let whole = width / 16 * 16;
        // SAFETY: full registers end at `whole`, the rest is accessed with its number of elements; `dispatch` chose a
        // level that the CPU has.
        unsafe {
            for at in (0..whole).step_by(16) {
                let (gate, up) = (T::load::<L>(gate.as_ptr().add(at)), T::load::<L>(up.as_ptr().add(at)));
                T::store::<L>(output.as_mut_ptr().add(at), product::<L, ACTIVATION>(gate, up));
            }
            if whole < width {
                let gate = T::load_some::<L>(gate.as_ptr().add(whole), width - whole);
                let up = T::load_some::<L>(up.as_ptr().add(whole), width - whole);
                let product = product::<L, ACTIVATION>(gate, up);
                T::store_some::<L>(output.as_mut_ptr().add(whole), product, width - whole);
            }
        }
    }
}

/// `gate / (1 + e^−s) · up`, where `s` is `gate` for SiLU and `√(8/π) · (gate + 0.044715 · gate³)` for GELU, since
/// `½ (1 + tanh(s/2)) = 1 / (1 + e^−s)`.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn product<L: Lanes, const ACTIVATION: u8>(gate: L::F, up: L::F) -> L::F {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let slope = if ACTIVATION == GELU {
            let cubic =
                L::fma(L::mul(gate, gate), L::splat(ROOT_8_BY_PI * 0.044_715), L::splat(ROOT_8_BY_PI));
            L::mul(gate, cubic)
        } else {
            gate
        };
        let divisor = L::add(L::splat(1.0), L::exp(L::sub(L::splat(0.0), slope)));
        L::mul(L::div(gate, divisor), up)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    fn agrees_with_libtorch(
        #[values((Kind::Float, 1e-6), (Kind::BFloat16, 6e-3), (Kind::Half, 1e-3))] kind: (Kind, f64),
        #[values((1, 1536), (3, 8), (2, 37), (150, 200))] size: (i64, i64),
    ) {
        tch::manual_seed(34);
        let (kind, bound) = kind;
        let input = (Tensor::randn([size.0, 2 * size.1], (Kind::Float, Device::Cpu)) * 9).to_kind(kind);
        compare::<SILU>(&input, bound);
        compare::<GELU>(&input, bound);
    }

    fn compare<const ACTIVATION: u8>(input: &Tensor, bound: f64) {
        let (kind, size) = (input.kind(), input.size());
        let expected = by_libtorch::<ACTIVATION>(&input.to_kind(Kind::Double));
        for level in Level::available() {
            let result = match kind {
                Kind::BFloat16 => on_host::<bf16, ACTIVATION>(level, input),
                Kind::Half => on_host::<f16, ACTIVATION>(level, input),
                _ => on_host::<f32, ACTIVATION>(level, input),
            };
            assert_eq!((result.size(), result.kind()), (vec![size[0], size[1] / 2], kind));
            let error = (result.to_kind(Kind::Double) - &expected).norm() / expected.norm();
            let error = f64::try_from(error).expect("a number");
            assert!(error < bound, "activation {ACTIVATION}, {level:?}: {error}");
        }
    }

    #[test]
    fn far_ends_are_zero_and_the_identity() {
        let input = Tensor::from_slice(&[-1e4f32, -200.0, 200.0, 1e4, 1.0, 1.0, 1.0, 1.0]);
        let result = Vec::<f32>::try_from(swiglu(&input)).expect("one dimension");
        assert!(result[0].abs() < 1e-20 && result[1].abs() < 1e-20);
        assert_eq!(result[2..], [200.0, 1e4]);
        let result = Vec::<f32>::try_from(geglu(&input)).expect("one dimension");
        assert!(result[0].abs() < 1e-20 && result[1].abs() < 1e-20);
        assert_eq!(result[2..], [200.0, 1e4]);
        for activation in [swiglu, geglu] {
            assert!(activation(&Tensor::from_slice(&[f32::NAN, 1.0])).isnan().all().int64_value(&[]) == 1);
        }
    }
}
