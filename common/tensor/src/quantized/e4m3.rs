//! The 8-bit float e4m3fn: 1 sign, 4 exponent (bias 7), 3 mantissa bits; no infinities, `0x7f` is NaN, largest 448
//! (Micikevicius et al. 2022, "FP8 formats for deep learning").

/// The largest finite value.
pub(super) const MAX: f32 = 448.0;

/// Rounds to the nearest e4m3 value, ties to even; larger values become the largest.
#[inline(always)]
pub(super) fn encode(value: f32) -> u8 {
    let bits = value.to_bits();
    let sign = ((bits >> 24) & 0x80) as u8;
    let magnitude = f32::from_bits(bits & 0x7fff_ffff).min(MAX);
    let bits = magnitude.to_bits();
    // At or above 2^-6: keep three mantissa bits, rounding in the integer; the exponent moves from bias 127 to 7.
    let odd = (bits >> 20) & 1;
    let normal = (bits.wrapping_sub(120 << 23).wrapping_add(0x7_ffff + odd) >> 20) as u8;
    // Below: adding 2^14 leaves multiples of 2^-9, rounded by the addition, in the last mantissa bits.
    let subnormal = ((magnitude + 16384.0).to_bits() & 0xff) as u8;
    sign | if bits < (121 << 23) { subnormal } else { normal }
}

/// The value of an e4m3 code.
#[inline(always)]
pub(crate) fn decode(code: u8) -> f32 {
    let magnitude = u32::from(code & 0x7f);
    let sign = u32::from(code & 0x80) << 24;
    let normal = f32::from_bits((magnitude << 20) + (120 << 23));
    // For exponent 0 the line above computed (1 + m/8) · 2^-7; the value is m/8 · 2^-6.
    let value = if magnitude < 8 { 2.0 * normal - 0.015_625 } else { normal };
    let value = if magnitude == 0x7f { f32::NAN } else { value };
    f32::from_bits(value.to_bits() | sign)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Kind, Tensor};

    #[test]
    fn every_code_decodes_as_libtorch_says_and_encodes_back() {
        assert!(decode(0x7f).is_nan() && decode(0xff).is_nan());
        let codes: Vec<u8> = (0..=255u8).filter(|code| code & 0x7f != 0x7f).collect();
        let reference: Vec<f32> = Tensor::from_slice(&codes)
            .view_dtype(Kind::Float8e4m3fn)
            .to_kind(Kind::Float)
            .try_into()
            .expect("one dimension");
        for (&code, &expected) in codes.iter().zip(&reference) {
            assert_eq!(decode(code).to_bits(), expected.to_bits(), "{code:#x}");
            assert_eq!(encode(expected), code, "{expected}");
        }
    }

    #[test]
    fn rounding_matches_libtorch() {
        let values: Vec<f32> =
            (0..200_000).map(|i| (i as f32 * 0.37).sin() * 10f32.powi(i % 9 - 6)).collect();
        let reference = Tensor::from_slice(&values).to_kind(Kind::Float8e4m3fn).view_dtype(Kind::Uint8);
        let reference: Vec<u8> = reference.try_into().expect("one dimension");
        for (&value, &code) in values.iter().zip(&reference) {
            assert_eq!(encode(value), code, "{value}");
        }
        assert_eq!(encode(1e9), 0x7e);
        assert_eq!(encode(-1e9), 0xfe);
    }
}
