//! AVX2: two 256-bit registers for 16 lanes. Bytes are multiplied as 16-bit integers, exactly.

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::Lanes;

#[derive(Clone, Copy)]
pub(super) struct Avx2;

type F = [__m256; 2];
type I = [__m256i; 2];

#[expect(clippy::undocumented_unsafe_blocks, reason = "each is the intrinsic under the trait's own promise")]
impl Lanes for Avx2 {
    type F = F;
    type I = I;
    type B = I;

    #[inline(always)]
    unsafe fn splat(value: f32) -> F {
        unsafe { [_mm256_set1_ps(value); 2] }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> F {
        unsafe { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))] }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const bf16) -> F {
        unsafe { [widen_bf16(from), widen_bf16(from.add(8))] }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> F {
        unsafe {
            let from = from.cast::<__m128i>();
            [_mm256_cvtph_ps(_mm_loadu_si128(from)), _mm256_cvtph_ps(_mm_loadu_si128(from.add(1)))]
        }
    }
    #[inline(always)]
    unsafe fn load_e4m3(from: *const u8) -> F {
        unsafe {
            let codes = _mm256_cvtepi8_epi16(_mm_loadu_si128(from.cast()));
            let halves = _mm256_and_si256(_mm256_slli_epi16::<7>(codes), _mm256_set1_epi16(!0x4000));
            [
                _mm256_cvtph_ps(_mm256_castsi256_si128(halves)),
                _mm256_cvtph_ps(_mm256_extracti128_si256::<1>(halves)),
            ]
        }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: F) {
        unsafe {
            _mm256_storeu_ps(to, value[0]);
            _mm256_storeu_ps(to.add(8), value[1]);
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(to: *mut bf16, value: F) {
        unsafe {
            let pair = _mm256_packus_epi32(narrow_bf16(value[0]), narrow_bf16(value[1]));
            _mm256_storeu_si256(to.cast(), _mm256_permute4x64_epi64::<0b1101_1000>(pair));
        }
    }
    #[inline(always)]
    unsafe fn store_f16(to: *mut f16, value: F) {
        unsafe {
            let to = to.cast::<__m128i>();
            _mm_storeu_si128(to, _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(value[0]));
            _mm_storeu_si128(to.add(1), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(value[1]));
        }
    }
    #[inline(always)]
    unsafe fn add(a: F, b: F) -> F {
        unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn sub(a: F, b: F) -> F {
        unsafe { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn mul(a: F, b: F) -> F {
        unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn div(a: F, b: F) -> F {
        unsafe { [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn max(a: F, b: F) -> F {
        unsafe { [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn min(a: F, b: F) -> F {
        unsafe { [_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn fma(a: F, b: F, c: F) -> F {
        unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
    }
    #[inline(always)]
    unsafe fn round(a: F) -> F {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        unsafe { [_mm256_round_ps::<NEAREST>(a[0]), _mm256_round_ps::<NEAREST>(a[1])] }
    }
    #[inline(always)]
    unsafe fn scale(a: F, n: F) -> F {
        unsafe { [_mm256_mul_ps(a[0], power_of_two(n[0])), _mm256_mul_ps(a[1], power_of_two(n[1]))] }
    }
    #[inline(always)]
    unsafe fn sum(a: F) -> f32 {
        unsafe {
            let half = _mm256_add_ps(a[0], a[1]);
            let quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps::<1>(half));
            let pair = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
            _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)))
        }
    }
    #[inline(always)]
    unsafe fn largest(a: F) -> f32 {
        unsafe {
            let half = _mm256_max_ps(a[0], a[1]);
            let quarter = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps::<1>(half));
            let pair = _mm_max_ps(quarter, _mm_movehl_ps(quarter, quarter));
            _mm_cvtss_f32(_mm_max_ss(pair, _mm_movehdup_ps(pair)))
        }
    }
    #[inline(always)]
    unsafe fn splat_i(value: i32) -> I {
        unsafe { [_mm256_set1_epi32(value); 2] }
    }
    #[inline(always)]
    unsafe fn times_128_plus(a: I, b: I) -> I {
        unsafe {
            [
                _mm256_add_epi32(_mm256_slli_epi32::<7>(a[0]), b[0]),
                _mm256_add_epi32(_mm256_slli_epi32::<7>(a[1]), b[1]),
            ]
        }
    }
    #[inline(always)]
    unsafe fn to_float(a: I) -> F {
        unsafe { [_mm256_cvtepi32_ps(a[0]), _mm256_cvtepi32_ps(a[1])] }
    }
    #[inline(always)]
    unsafe fn load_codes(from: *const u8) -> I {
        unsafe { [_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast())] }
    }
    #[inline(always)]
    unsafe fn low(codes: I) -> I {
        unsafe {
            let mask = _mm256_set1_epi8(15);
            [_mm256_and_si256(codes[0], mask), _mm256_and_si256(codes[1], mask)]
        }
    }
    #[inline(always)]
    unsafe fn high(codes: I) -> I {
        unsafe { Self::low([_mm256_srli_epi16::<4>(codes[0]), _mm256_srli_epi16::<4>(codes[1])]) }
    }
    #[inline(always)]
    unsafe fn dot4(sums: I, codes: I, x: *const i8) -> I {
        unsafe {
            // Even and odd bytes as 16-bit integers; `maddubs` would saturate for codes above 127.
            let x = _mm256_set1_epi32(x.cast::<i32>().read_unaligned());
            let odd = _mm256_srai_epi16::<8>(x);
            let even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(x));
            [dot_pairs(sums[0], codes[0], even, odd), dot_pairs(sums[1], codes[1], even, odd)]
        }
    }
}

#[inline(always)]
unsafe fn dot_pairs(sums: __m256i, codes: __m256i, even: __m256i, odd: __m256i) -> __m256i {
    // SAFETY: register operations of this level.
    unsafe {
        let evens = _mm256_madd_epi16(_mm256_and_si256(codes, _mm256_set1_epi16(0xff)), even);
        let odds = _mm256_madd_epi16(_mm256_srli_epi16::<8>(codes), odd);
        _mm256_add_epi32(sums, _mm256_add_epi32(evens, odds))
    }
}

#[inline(always)]
unsafe fn widen_bf16(from: *const bf16) -> __m256 {
    // SAFETY: eight elements, guaranteed by the caller.
    unsafe {
        let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
    }
}

/// The upper halves after rounding, each in 32 bits.
#[inline(always)]
unsafe fn narrow_bf16(value: __m256) -> __m256i {
    // SAFETY: register operations of this level.
    unsafe {
        let bits = _mm256_castps_si256(value);
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
        let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(value, value));
        _mm256_blendv_epi8(_mm256_srli_epi32::<16>(rounded), _mm256_set1_epi32(0x7fc0), nan)
    }
}

/// `2^n`; 0 below the normal numbers; 1 for NaN, which the other factor propagates.
#[inline(always)]
unsafe fn power_of_two(n: __m256) -> __m256 {
    // SAFETY: register operations of this level.
    unsafe {
        let exponent = _mm256_max_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(-127));
        _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(exponent, _mm256_set1_epi32(127))))
    }
}
