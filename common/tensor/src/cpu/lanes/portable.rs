//! Portable code: arrays of 16, in loops that the compiler vectorises for the build's target.

use half::{bf16, f16};

use super::Lanes;
use crate::host::HostFloat;

#[derive(Clone, Copy)]
pub(super) struct Portable;

type F = [f32; 16];
type I = [i32; 16];

#[inline(always)]
fn each(work: impl Fn(usize) -> f32) -> F {
    let mut result = [0.0; 16];
    for (index, result) in result.iter_mut().enumerate() {
        *result = work(index);
    }
    result
}

#[inline(always)]
fn folded(mut values: F, work: impl Fn(f32, f32) -> f32) -> f32 {
    for width in [8, 4, 2, 1] {
        for index in 0..width {
            values[index] = work(values[index], values[index + width]);
        }
    }
    values[0]
}

#[expect(clippy::undocumented_unsafe_blocks, reason = "each reads or writes what the trait's promise covers")]
impl Lanes for Portable {
    type F = F;
    type I = I;
    type B = [u8; 64];

    #[inline(always)]
    unsafe fn splat(value: f32) -> F {
        [value; 16]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> F {
        unsafe { from.cast::<F>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const bf16) -> F {
        let values = unsafe { from.cast::<[bf16; 16]>().read_unaligned() };
        each(|index| values[index].widen())
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> F {
        let values = unsafe { from.cast::<[f16; 16]>().read_unaligned() };
        each(|index| values[index].widen())
    }
    #[inline(always)]
    unsafe fn load_e4m3(from: *const u8) -> F {
        let codes = unsafe { from.cast::<[u8; 16]>().read() };
        each(|index| {
            let bits = (u16::from(codes[index] & 0x80) << 8) | (u16::from(codes[index] & 0x7f) << 7);
            f16::from_bits(bits).widen()
        })
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: F) {
        unsafe { to.cast::<F>().write_unaligned(value) }
    }
    #[inline(always)]
    unsafe fn store_bf16(to: *mut bf16, value: F) {
        unsafe { to.cast::<[bf16; 16]>().write_unaligned(value.map(HostFloat::narrow)) }
    }
    #[inline(always)]
    unsafe fn store_f16(to: *mut f16, value: F) {
        unsafe { to.cast::<[f16; 16]>().write_unaligned(value.map(HostFloat::narrow)) }
    }
    #[inline(always)]
    unsafe fn add(a: F, b: F) -> F {
        each(|index| a[index] + b[index])
    }
    #[inline(always)]
    unsafe fn sub(a: F, b: F) -> F {
        each(|index| a[index] - b[index])
    }
    #[inline(always)]
    unsafe fn mul(a: F, b: F) -> F {
        each(|index| a[index] * b[index])
    }
    #[inline(always)]
    unsafe fn div(a: F, b: F) -> F {
        each(|index| a[index] / b[index])
    }
    #[inline(always)]
    unsafe fn max(a: F, b: F) -> F {
        each(|index| if a[index] > b[index] { a[index] } else { b[index] })
    }
    #[inline(always)]
    unsafe fn min(a: F, b: F) -> F {
        each(|index| if a[index] < b[index] { a[index] } else { b[index] })
    }
    #[inline(always)]
    unsafe fn fma(a: F, b: F, c: F) -> F {
        // Without the instruction, a fused operation would be a call of the C library.
        if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
            each(|index| a[index].mul_add(b[index], c[index]))
        } else {
            each(|index| a[index] * b[index] + c[index])
        }
    }
    #[inline(always)]
    unsafe fn round(a: F) -> F {
        // Adding 1.5 · 2^23 leaves the integer in the last bits, rounded by the addition.
        const WHOLE: f32 = 12_582_912.0;
        each(|index| (a[index] + WHOLE) - WHOLE)
    }
    #[inline(always)]
    unsafe fn scale(a: F, n: F) -> F {
        each(|index| {
            let exponent = (n[index] as i32).max(-127) + 127;
            a[index] * f32::from_bits((exponent << 23) as u32)
        })
    }
    #[inline(always)]
    unsafe fn sum(a: F) -> f32 {
        folded(a, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn largest(a: F) -> f32 {
        folded(a, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn splat_i(value: i32) -> I {
        [value; 16]
    }
    #[inline(always)]
    unsafe fn times_128_plus(a: I, b: I) -> I {
        std::array::from_fn(|index| (a[index] << 7) + b[index])
    }
    #[inline(always)]
    unsafe fn to_float(a: I) -> F {
        each(|index| a[index] as f32)
    }
    #[inline(always)]
    unsafe fn load_codes(from: *const u8) -> [u8; 64] {
        unsafe { from.cast::<[u8; 64]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn low(codes: [u8; 64]) -> [u8; 64] {
        codes.map(|code| code & 15)
    }
    #[inline(always)]
    unsafe fn high(codes: [u8; 64]) -> [u8; 64] {
        codes.map(|code| code >> 4)
    }
    #[inline]
    unsafe fn dot4(mut sums: I, codes: [u8; 64], x: *const i8) -> I {
        let x = unsafe { x.cast::<[i8; 4]>().read_unaligned() }.map(i32::from);
        for (lane, sum) in sums.iter_mut().enumerate() {
            // In pairs, as the instruction for pairs of 16-bit integers adds them.
            *sum += i32::from(codes[4 * lane]) * x[0] + i32::from(codes[4 * lane + 1]) * x[1];
            *sum += i32::from(codes[4 * lane + 2]) * x[2] + i32::from(codes[4 * lane + 3]) * x[3];
        }
        sums
    }
}
