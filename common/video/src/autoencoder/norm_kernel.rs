//! Norm and activation in one pass over host memory, where libtorch needs up to seven.

use tch::{Kind, Tensor};
use videosdgx_tensor::{HostFloat, bf16};

/// Fewest elements per thread; a thread for fewer costs more than it gains.
const WORTH_A_THREAD: usize = 1 << 18;

/// `x / √(mean(x²) + eps) · gamma` over the last dimension of a contiguous tensor on the CPU, optionally followed by SiLU.
/// `None` for other layouts and types.
pub(super) fn normalize(x: &Tensor, gamma: &[f32], eps: f32, silu: bool) -> Option<Tensor> {
    if !x.is_contiguous() || x.size().last() != Some(&(gamma.len() as i64)) {
        return None;
    }
    let output = x.empty_like();
    match (x.kind(), silu) {
        (Kind::Float, false) => run::<f32, false>(x, gamma, eps, &output),
        (Kind::Float, true) => run::<f32, true>(x, gamma, eps, &output),
        (Kind::BFloat16, false) => run::<bf16, false>(x, gamma, eps, &output),
        (Kind::BFloat16, true) => run::<bf16, true>(x, gamma, eps, &output),
        _ => return None,
    }
    Some(output)
}

fn run<T: HostFloat, const SILU: bool>(x: &Tensor, gamma: &[f32], eps: f32, output: &Tensor) {
    let length = x.numel();
    if length == 0 {
        return;
    }
    assert!(output.is_contiguous() && output.kind() == x.kind() && output.numel() == length);
    // SAFETY: both tensors are contiguous CPU memory of `length` elements of a type laid out as `T` (the caller chose
    // `T` by their kind) and outlive this function; `output` was just allocated and has no other reference.
    let (input, output) = unsafe {
        (
            std::slice::from_raw_parts(x.data_ptr().cast::<T>(), length),
            std::slice::from_raw_parts_mut(output.data_ptr().cast::<T>(), length),
        )
    };
    let channels = gamma.len();
    let threads = usize::try_from(tch::get_num_threads()).unwrap_or(1).min(length / WORTH_A_THREAD).max(1);
    let chunk = (length / channels).div_ceil(threads) * channels;
    std::thread::scope(|scope| {
        let mut pieces = input.chunks(chunk).zip(output.chunks_mut(chunk));
        let own = pieces.next();
        for (input, output) in pieces {
            scope.spawn(move || pixels::<T, SILU>(input, gamma, eps, output));
        }
        if let Some((input, output)) = own {
            pixels::<T, SILU>(input, gamma, eps, output);
        }
    });
}

fn pixels<T: HostFloat, const SILU: bool>(input: &[T], gamma: &[f32], eps: f32, output: &mut [T]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the CPU has the feature the function is compiled for.
        return unsafe { pixels_avx2::<T, SILU>(input, gamma, eps, output) };
    }
    pixels_anywhere::<T, SILU>(input, gamma, eps, output);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn pixels_avx2<T: HostFloat, const SILU: bool>(input: &[T], gamma: &[f32], eps: f32, output: &mut [T]) {
    pixels_anywhere::<T, SILU>(input, gamma, eps, output);
}

#[inline(always)]
fn pixels_anywhere<T: HostFloat, const SILU: bool>(input: &[T], gamma: &[f32], eps: f32, output: &mut [T]) {
    let channels = gamma.len();
    for (input, output) in input.chunks_exact(channels).zip(output.chunks_exact_mut(channels)) {
        let scale = 1.0 / (square_sum(input) / channels as f32 + eps).sqrt();
        for ((value, &x), &gamma) in output.iter_mut().zip(input).zip(gamma) {
            let y = x.widen() * scale * gamma;
            *value = T::narrow(if SILU { y / (1.0 + exp(-y)) } else { y });
        }
    }
}

/// In 16 partial sums, which the compiler vectorises.
#[inline(always)]
fn square_sum<T: HostFloat>(values: &[T]) -> f32 {
    let mut sums = [0f32; 16];
    let (chunks, rest) = values.as_chunks::<16>();
    for chunk in chunks {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum += value.widen() * value.widen();
        }
    }
    for (sum, value) in sums.iter_mut().zip(rest) {
        *sum += value.widen() * value.widen();
    }
    sums.iter().sum()
}

/// e^x within 2 units in the last place, without branches (Cephes' polynomial on the remainder of x / ln 2).
#[inline(always)]
#[expect(clippy::excessive_precision, reason = "constants as published")]
fn exp(x: f32) -> f32 {
    // Adding this rounds to an integer, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let power = shifted - ROUND;
    let r = x - power * 0.693_359_375 + power * 2.121_944_4e-4;
    let mut y = 1.987_569_15e-4;
    for coefficient in [1.398_199_95e-3, 8.333_451_9e-3, 4.166_579_6e-2, 1.666_666_55e-1, 5.000_000_1e-1] {
        y = y * r + coefficient;
    }
    let y = y * r * r + r + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    y * f32::from_bits((exponent.wrapping_add(127) as u32) << 23)
}

#[cfg(test)]
mod tests {
    #[test]
    fn exp_is_exact_to_seven_digits() {
        for i in -8700..=8800 {
            let x = i as f32 / 100.0;
            let want = f64::from(x).exp();
            let error = (f64::from(super::exp(x)) - want).abs() / want;
            assert!(error < 3e-7, "{x}: {error:e}");
        }
        // SiLU where exp overflows: x, and 0.
        assert_eq!(1e30 / (1.0 + super::exp(-1e30)), 1e30);
        assert!((-1e3 / (1.0 + super::exp(1e3))).abs() < 1e-30);
    }
}
