//! Operations on 16 numbers at a time, with which the kernels are written once for every instruction set.
//!
//! A kernel is generic over [`Lanes`]; [`dispatch`] compiles it for each level and runs the best one that the CPU
//! has. Everything is inlined into a function with the level's features, so that the intrinsics become single
//! instructions. On a given level every operation rounds identically in every kernel: results do not depend on
//! tiling.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use half::{bf16, f16};

use crate::host::HostFloat;
use portable::Portable;

/// An instruction set that kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// The features that every machine of the build's target has.
    Baseline,
    /// AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 with VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// The best level that this machine has.
    #[inline]
    pub(crate) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = std::arch::is_x86_feature_detected!("avx2")
                && std::arch::is_x86_feature_detected!("fma")
                && std::arch::is_x86_feature_detected!("f16c");
            if avx2
                && std::arch::is_x86_feature_detected!("avx512f")
                && std::arch::is_x86_feature_detected!("avx512bw")
                && std::arch::is_x86_feature_detected!("avx512vl")
                && std::arch::is_x86_feature_detected!("avx512dq")
                && std::arch::is_x86_feature_detected!("avx512vnni")
            {
                return Self::Avx512;
            }
            if avx2 {
                return Self::Avx2;
            }
        }
        Self::Baseline
    }

    /// All levels that this machine has.
    #[cfg(test)]
    pub(crate) fn available() -> Vec<Self> {
        let mut levels = vec![Self::Baseline];
        #[cfg(target_arch = "x86_64")]
        match Self::detect() {
            Self::Avx512 => levels.extend([Self::Avx2, Self::Avx512]),
            Self::Avx2 => levels.push(Self::Avx2),
            Self::Baseline => {}
        }
        levels
    }
}

/// A computation that is compiled for each level. `run` is `#[inline(always)]`, and so is everything that it calls on
/// `L`.
pub(crate) trait Kernel {
    type Output;
    fn run<L: Lanes>(self) -> Self::Output;
}

/// Runs `kernel` compiled for `level`, which this machine must have.
#[inline]
pub(crate) fn dispatch<K: Kernel>(level: Level, kernel: K) -> K::Output {
    match level {
        Level::Baseline => kernel.run::<Portable>(),
        // SAFETY: levels come from `Level::detect` or `Level::available`: the CPU has the features.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { with_avx2(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { with_avx512(kernel) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn with_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<avx2::Avx2>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn with_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<avx512::Avx512>()
}

/// The factor by which the results of [`Lanes::load_e4m3`] are too small.
pub(crate) const E4M3_FACTOR: f32 = 256.0;

/// Operations on 16 lanes. Pointers need no alignment.
///
/// # Safety
/// For all functions: the CPU has the level's features, and pointers are valid for what is read or written (16
/// elements or 64 codes, unless stated otherwise).
pub(crate) trait Lanes: Copy {
    /// 16 × f32.
    type F: Copy;
    /// 16 × i32.
    type I: Copy;
    /// 64 × u8.
    type B: Copy;

    unsafe fn splat(value: f32) -> Self::F;
    unsafe fn load(from: *const f32) -> Self::F;
    unsafe fn load_bf16(from: *const bf16) -> Self::F;
    unsafe fn load_f16(from: *const f16) -> Self::F;
    unsafe fn store(to: *mut f32, value: Self::F);
    /// Rounds to nearest, ties to even.
    unsafe fn store_bf16(to: *mut bf16, value: Self::F);
    unsafe fn store_f16(to: *mut f16, value: Self::F);
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F;
    /// `b` where either is NaN.
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F;
    /// `b` where either is NaN.
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F;
    /// `a · b + c`.
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// To the nearest integer, ties to even.
    unsafe fn round(a: Self::F) -> Self::F;
    /// `a · 2^n` for integers n from −200 to 128.
    unsafe fn scale(a: Self::F, n: Self::F) -> Self::F;
    /// Sum of the lanes, always in the same order.
    unsafe fn sum(a: Self::F) -> f32;
    /// The largest lane.
    unsafe fn largest(a: Self::F) -> f32;

    unsafe fn splat_i(value: i32) -> Self::I;
    /// `a · 128 + b`.
    unsafe fn times_128_plus(a: Self::I, b: Self::I) -> Self::I;
    unsafe fn to_float(a: Self::I) -> Self::F;
    unsafe fn load_codes(from: *const u8) -> Self::B;
    /// The low nibbles.
    unsafe fn low(codes: Self::B) -> Self::B;
    /// The high nibbles.
    unsafe fn high(codes: Self::B) -> Self::B;
    /// Adds to each lane the sum of its four codes times the four signed bytes at `x`.
    unsafe fn dot4(sums: Self::I, codes: Self::B, x: *const i8) -> Self::I;

    /// 16 values in e4m3, none of them NaN, divided by [`E4M3_FACTOR`]: their bits, shifted, are IEEE half precision
    /// with another exponent bias.
    unsafe fn load_e4m3(from: *const u8) -> Self::F;
    /// Values of `table` at the indices in the nibbles of 8 bytes; in each byte the low nibble comes first, or the
    /// high one.
    #[inline(always)]
    unsafe fn look_up<const HIGH_FIRST: bool>(table: &[f32; 16], from: *const u8) -> Self::F {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let codes = from.cast::<[u8; 8]>().read();
            let mut values = [0f32; 16];
            for (pair, code) in values.chunks_exact_mut(2).zip(codes) {
                let nibbles = [code & 15, code >> 4].map(|nibble| table[usize::from(nibble)]);
                pair.copy_from_slice(&if HIGH_FIRST { [nibbles[1], nibbles[0]] } else { nibbles });
            }
            Self::load(values.as_ptr())
        }
    }

    /// `e^a` within 2 units in the last place; 0 below about −87.4, large above 88; NaN stays NaN.
    #[inline(always)]
    unsafe fn exp(a: Self::F) -> Self::F {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let a = Self::max(Self::splat(-110.0), Self::min(Self::splat(88.3), a));
            let n = Self::round(Self::mul(a, Self::splat(std::f32::consts::LOG2_E)));
            // As in Cephes: ln 2 in two parts, and a polynomial for e^r - 1 - r.
            let r = Self::fma(n, Self::splat(-0.693_359_4), a);
            let r = Self::fma(n, Self::splat(2.121_944_4e-4), r);
            let mut p = Self::splat(1.987_569_1e-4);
            for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
                p = Self::fma(p, r, Self::splat(coefficient));
            }
            let p = Self::fma(Self::mul(p, r), r, Self::add(r, Self::splat(1.0)));
            Self::scale(p, n)
        }
    }
}

/// Floating-point elements that kernels load and store 16 at a time.
pub(crate) trait LaneFloat: HostFloat {
    /// # Safety
    /// As [`Lanes`].
    unsafe fn load<L: Lanes>(from: *const Self) -> L::F;
    /// # Safety
    /// As [`Lanes`].
    unsafe fn store<L: Lanes>(to: *mut Self, value: L::F);

    /// Loads the first `count` elements; the other lanes are zero.
    ///
    /// # Safety
    /// As [`Lanes`], for `count` elements.
    #[inline(always)]
    unsafe fn load_some<L: Lanes>(from: *const Self, count: usize) -> L::F {
        let mut wide = [0f32; 16];
        // SAFETY: guaranteed by the caller.
        unsafe {
            for (index, wide) in wide.iter_mut().enumerate().take(count) {
                *wide = (*from.add(index)).widen();
            }
            L::load(wide.as_ptr())
        }
    }

    /// Stores the first `count` lanes.
    ///
    /// # Safety
    /// As [`Lanes`], for `count` elements.
    #[inline(always)]
    unsafe fn store_some<L: Lanes>(to: *mut Self, value: L::F, count: usize) {
        let mut wide = [0f32; 16];
        // SAFETY: guaranteed by the caller.
        unsafe {
            L::store(wide.as_mut_ptr(), value);
            for (index, &wide) in wide.iter().enumerate().take(count) {
                *to.add(index) = Self::narrow(wide);
            }
        }
    }
}

impl LaneFloat for f32 {
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const Self) -> L::F {
        // SAFETY: guaranteed by the caller.
        unsafe { L::load(from) }
    }
    #[inline(always)]
    unsafe fn store<L: Lanes>(to: *mut Self, value: L::F) {
        // SAFETY: guaranteed by the caller.
        unsafe { L::store(to, value) }
    }
}

impl LaneFloat for bf16 {
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const Self) -> L::F {
        // SAFETY: guaranteed by the caller.
        unsafe { L::load_bf16(from) }
    }
    #[inline(always)]
    unsafe fn store<L: Lanes>(to: *mut Self, value: L::F) {
        // SAFETY: guaranteed by the caller.
        unsafe { L::store_bf16(to, value) }
    }
}

impl LaneFloat for f16 {
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const Self) -> L::F {
        // SAFETY: guaranteed by the caller.
        unsafe { L::load_f16(from) }
    }
    #[inline(always)]
    unsafe fn store<L: Lanes>(to: *mut Self, value: L::F) {
        // SAFETY: guaranteed by the caller.
        unsafe { L::store_f16(to, value) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    struct Exp<'a>(&'a [f32], &'a mut [f32]);
    impl Kernel for Exp<'_> {
        type Output = ();
        #[inline(always)]
        fn run<L: Lanes>(self) {
            for (from, to) in self.0.chunks_exact(16).zip(self.1.chunks_exact_mut(16)) {
                // SAFETY: 16 elements each, and `dispatch` chose the level.
                unsafe { L::store(to.as_mut_ptr(), L::exp(L::load(from.as_ptr()))) };
            }
        }
    }

    #[test]
    fn the_exponential_is_exact_to_two_units_on_every_level() {
        let mut values: Vec<f32> = (0..16 * 4000).map(|i| -87.0 + 175.0 * i as f32 / 64_000.0).collect();
        values.extend([f32::NEG_INFINITY, -1000.0, -104.0, f32::NAN, 0.0, -0.0, 1.0, -1e-9, 1e-30, 88.0]);
        values.resize(values.len().next_multiple_of(16), 0.0);
        for level in Level::available() {
            let mut results = vec![0f32; values.len()];
            dispatch(level, Exp(&values, &mut results));
            for (&value, &result) in values.iter().zip(&results) {
                let exact = f64::from(value).exp();
                let close = (f64::from(result) - exact).abs() <= exact * 2.4e-7
                    || exact < 1.3e-38 && result < 1.3e-38;
                assert!(close || (value.is_nan() && result.is_nan()), "{level:?}: e^{value} = {result}");
                assert!(value.is_nan() || value > -104.0 || result == 0.0, "{level:?}: e^{value} = {result}");
            }
        }
    }

    struct Convert<'a>(&'a [f32], &'a mut [u16], &'a mut [u16], &'a mut [f32]);
    impl Kernel for Convert<'_> {
        type Output = ();
        #[inline(always)]
        fn run<L: Lanes>(self) {
            for at in (0..self.0.len()).step_by(16) {
                // SAFETY: 16 elements each; u16 has the layout of both half types.
                unsafe {
                    let value = L::load(self.0.as_ptr().add(at));
                    L::store_bf16(self.1.as_mut_ptr().add(at).cast(), value);
                    L::store_f16(self.2.as_mut_ptr().add(at).cast(), value);
                    let back = L::add(
                        L::load_bf16(self.1.as_ptr().add(at).cast()),
                        L::load_f16(self.2.as_ptr().add(at).cast()),
                    );
                    L::store(self.3.as_mut_ptr().add(at), back);
                }
            }
        }
    }

    #[rstest]
    fn halves_round_as_the_half_crate_says() {
        let values: Vec<f32> =
            (0..16_000).map(|i| (i as f32 * 0.731).sin() * 10f32.powi(i % 11 - 7)).collect();
        for level in Level::available() {
            let (mut b, mut h, mut sums) = (vec![0; 16_000], vec![0; 16_000], vec![0.0; 16_000]);
            dispatch(level, Convert(&values, &mut b, &mut h, &mut sums));
            for (index, &value) in values.iter().enumerate() {
                let (wide, narrow) = (bf16::from_f32(value), f16::from_f32(value));
                assert_eq!((b[index], h[index]), (wide.to_bits(), narrow.to_bits()), "{level:?}: {value}");
                assert_eq!(sums[index], wide.to_f32() + narrow.to_f32(), "{level:?}: {value}");
            }
        }
    }
}
