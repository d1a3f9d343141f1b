//! Upsampling, Snake and downsampling in one pass over host memory, where libtorch writes the waveform at twice the rate
//! several times.

use std::f32::consts::FRAC_1_PI;

use tch::{Kind, Tensor};

/// Taps of each filter.
pub(super) const TAPS: usize = 12;
/// Channels that are computed together.
const LANES: usize = 8;
/// Output rows computed from one window.
const ROWS: usize = 64;
/// Fewest elements per thread; a thread for fewer costs more than it gains.
const WORTH_A_THREAD: usize = 1 << 16;

type Lanes = [f32; LANES];

/// What the activation of one layer needs, in host memory.
pub(super) struct Parameters {
    /// For each channel.
    pub(super) alpha: Vec<f32>,
    /// For each channel.
    pub(super) inverse_beta: Vec<f32>,
    pub(super) up: [f32; TAPS],
    pub(super) down: [f32; TAPS],
}

/// `[t, channels]` f32, contiguous, on the CPU → the same. `None` for other layouts and types.
pub(super) fn forward(x: &Tensor, parameters: &Parameters) -> Option<Tensor> {
    let channels = parameters.alpha.len();
    let &[length, width] = x.size().as_slice() else { return None };
    if !x.is_contiguous() || x.kind() != Kind::Float || width != channels as i64 || x.numel() == 0 {
        return None;
    }
    let output = x.empty_like();
    let count = x.numel();
    assert!(output.is_contiguous() && output.kind() == Kind::Float && output.numel() == count);
    // SAFETY: both tensors are contiguous CPU memory of `count` f32 and outlive this function; `output` was just
    // allocated and has no other reference.
    let (input, results) = unsafe {
        (
            std::slice::from_raw_parts(x.data_ptr().cast::<f32>(), count),
            std::slice::from_raw_parts_mut(output.data_ptr().cast::<f32>(), count),
        )
    };
    let threads = usize::try_from(tch::get_num_threads()).unwrap_or(1).min(count / WORTH_A_THREAD).max(1);
    let rows = usize::try_from(length).unwrap_or(0).div_ceil(threads);
    std::thread::scope(|scope| {
        let mut pieces = results.chunks_mut(rows * channels).enumerate();
        let own = pieces.next();
        for (index, piece) in pieces {
            scope.spawn(move || compute(input, index * rows, piece, parameters));
        }
        if let Some((_, piece)) = own {
            compute(input, 0, piece, parameters);
        }
    });
    Some(output)
}

/// Writes rows `first`, … of the result to `output`.
fn compute(input: &[f32], first: usize, output: &mut [f32], parameters: &Parameters) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
        // SAFETY: the CPU has the features the function is compiled for.
        return unsafe { compute_avx2(input, first, output, parameters) };
    }
    // Every 64-bit Arm processor has a fused multiplication and addition; elsewhere it would be a function call.
    compute_anywhere::<{ cfg!(target_arch = "aarch64") }>(input, first, output, parameters);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn compute_avx2(input: &[f32], first: usize, output: &mut [f32], parameters: &Parameters) {
    compute_anywhere::<true>(input, first, output, parameters);
}

#[inline(always)]
fn compute_anywhere<const FUSED: bool>(
    input: &[f32],
    first: usize,
    output: &mut [f32],
    parameters: &Parameters,
) {
    let channels = parameters.alpha.len();
    for (block, output) in output.chunks_mut(ROWS * channels).enumerate() {
        for channel in (0..channels).step_by(LANES) {
            tile::<FUSED>(input, first + block * ROWS, channel, output, parameters);
        }
    }
}

/// Up to [`ROWS`] rows of up to [`LANES`] channels.
///
/// With `x` constant beyond its ends, the waveform at twice the rate is, for the filter `f` of upsampling,
/// `even[n] = 2 Σ f[11 - 2q] x[n - 3 + q]` and `odd[n] = 2 Σ f[10 - 2q] x[n - 2 + q]` over the six q; the result is, for the
/// filter `g` of downsampling, `y[t] = Σ g[2q + 1] even[t - 2 + q] + g[2q] odd[t - 3 + q]`.
#[inline(always)]
fn tile<const FUSED: bool>(
    input: &[f32],
    first: usize,
    channel: usize,
    output: &mut [f32],
    parameters: &Parameters,
) {
    let channels = parameters.alpha.len();
    let lanes = LANES.min(channels - channel);
    let (length, rows) = (input.len() / channels, output.len() / channels);
    let load = |from: &[f32]| {
        let mut wide = [0.0; LANES];
        wide[..lanes].copy_from_slice(&from[channel..channel + lanes]);
        wide
    };
    let (alpha, inverse_beta) = (load(&parameters.alpha), load(&parameters.inverse_beta));

    // Row `first - 6 + i` of the input.
    let mut window = [[0.0; LANES]; ROWS + 12];
    for (index, wide) in window.iter_mut().take(rows + 12).enumerate() {
        let row = (first + index).saturating_sub(6).min(length - 1);
        *wide = load(&input[row * channels..(row + 1) * channels]);
    }
    // Row `first - 3 + i` of the even and odd samples at twice the rate.
    let (mut even, mut odd) = ([[0.0; LANES]; ROWS + 6], [[0.0; LANES]; ROWS + 6]);
    for index in 0..rows + 6 {
        let (mut a, mut b) = ([0.0; LANES], [0.0; LANES]);
        for q in 0..6 {
            let (f, g) = (2.0 * parameters.up[11 - 2 * q], 2.0 * parameters.up[10 - 2 * q]);
            add_product::<FUSED>(&mut a, f, &window[index + q]);
            add_product::<FUSED>(&mut b, g, &window[index + 1 + q]);
        }
        even[index] = snake::<FUSED>(a, &alpha, &inverse_beta);
        odd[index] = snake::<FUSED>(b, &alpha, &inverse_beta);
    }
    // Beyond the ends, the first and the last of these samples are repeated.
    for index in 0..3usize.saturating_sub(first) {
        let value = even[3 - first];
        (even[index], odd[index]) = (value, value);
    }
    for index in (length + 3 - first).min(rows + 6)..rows + 6 {
        let value = odd[length + 2 - first];
        (even[index], odd[index]) = (value, value);
    }
    for (index, output) in output.chunks_exact_mut(channels).enumerate() {
        let mut sum = [0.0; LANES];
        for q in 0..6 {
            add_product::<FUSED>(&mut sum, parameters.down[2 * q + 1], &even[index + 1 + q]);
            add_product::<FUSED>(&mut sum, parameters.down[2 * q], &odd[index + q]);
        }
        output[channel..channel + lanes].copy_from_slice(&sum[..lanes]);
    }
}

#[inline(always)]
fn add_product<const FUSED: bool>(sum: &mut Lanes, factor: f32, values: &Lanes) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum = multiply_add::<FUSED>(factor, *value, *sum);
    }
}

#[inline(always)]
fn multiply_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

#[inline(always)]
fn snake<const FUSED: bool>(mut x: Lanes, alpha: &Lanes, inverse_beta: &Lanes) -> Lanes {
    for ((x, alpha), inverse_beta) in x.iter_mut().zip(alpha).zip(inverse_beta) {
        *x = multiply_add::<FUSED>(sine_squared::<FUSED>(*x * alpha), *inverse_beta, *x);
    }
    x
}

/// sin²(x) within 3e-7, for |x| up to about 10⁵; from 0 to 1 for every finite x.
#[inline(always)]
#[expect(clippy::excessive_precision, reason = "constants as published")]
fn sine_squared<const FUSED: bool>(x: f32) -> f32 {
    // Adding this rounds to an integer.
    const ROUND: f32 = 12_582_912.0;
    // π in three parts, the first two short enough for exact products (Cephes).
    const PI: [f32; 3] = [3.140_625, 9.675_025_939_941_406_25e-4, 1.509_957_990_978_376_432e-7];
    // The period is π, so only the distance from the nearest multiple counts.
    let turns = multiply_add::<FUSED>(x, FRAC_1_PI, ROUND) - ROUND;
    let mut rest = x;
    for part in PI {
        rest = multiply_add::<FUSED>(turns, -part, rest);
    }
    let rest = rest.clamp(-1.570_796_4, 1.570_796_4);
    // Abramowitz & Stegun 4.3.97.
    let square = rest * rest;
    let mut sine = -2.39e-8;
    for coefficient in [2.752_6e-6, -1.984_090e-4, 8.333_331_5e-3, -1.666_666_664e-1, 1.0] {
        sine = multiply_add::<FUSED>(sine, square, coefficient);
    }
    let sine = sine * rest;
    sine * sine
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sine_squared_is_exact_to_six_digits() {
        for step in -200_000..200_000i32 {
            let x = step as f32 * 0.01;
            let want = f64::from(x).sin().powi(2);
            for got in [sine_squared::<false>(x), sine_squared::<true>(x)] {
                assert!((f64::from(got) - want).abs() < 5e-7, "{x}: {got}");
            }
        }
        for x in [1e8, -1e20, f32::MAX] {
            assert!((0.0..=1.001).contains(&sine_squared::<true>(x)));
        }
        assert!(sine_squared::<true>(f32::NAN).is_nan());
    }
}
