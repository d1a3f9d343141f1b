//! libtorch tensors in host memory as Rust slices, for the CPU kernels of this crate.

use half::{bf16, f16};
use tch::{Device, Kind, Tensor};

mod sealed {
    /// Kernels reinterpret libtorch's memory as slices of these types, so only types with a matching layout may
    /// implement it.
    pub trait Sealed {}
}

/// Element types with the same layout in Rust and libtorch, for which every bit pattern is a valid value.
pub trait HostElement: Copy + Send + Sync + sealed::Sealed {
    /// libtorch's name of the type.
    const KIND: Kind;
}

/// Floating-point elements; kernels compute with them in f32.
pub trait HostFloat: HostElement {
    /// Converts to f32, exactly.
    fn widen(self) -> f32;
    /// Rounds to the nearest value of this type, ties to even.
    fn narrow(value: f32) -> Self;
}

impl sealed::Sealed for u8 {}
impl sealed::Sealed for i64 {}
impl sealed::Sealed for f32 {}
impl sealed::Sealed for bf16 {}
impl sealed::Sealed for f16 {}

impl HostElement for u8 {
    const KIND: Kind = Kind::Uint8;
}
impl HostElement for i64 {
    const KIND: Kind = Kind::Int64;
}
impl HostElement for f32 {
    const KIND: Kind = Kind::Float;
}
impl HostElement for bf16 {
    const KIND: Kind = Kind::BFloat16;
}
impl HostElement for f16 {
    const KIND: Kind = Kind::Half;
}

impl HostFloat for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
    #[inline(always)]
    fn narrow(value: f32) -> Self {
        value
    }
}

impl HostFloat for bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
    /// Rounds to nearest, ties to even. Without branches, so that the compiler vectorises it.
    #[inline(always)]
    fn narrow(value: f32) -> Self {
        let bits = value.to_bits();
        let rounded = (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16;
        Self::from_bits(if value.is_nan() { 0x7fc0 } else { rounded })
    }
}

impl HostFloat for f16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self.to_f32()
    }
    #[inline(always)]
    fn narrow(value: f32) -> Self {
        Self::from_f32(value)
    }
}

/// The elements of a contiguous CPU tensor.
pub(crate) fn slice<T: HostElement>(tensor: &Tensor) -> &[T] {
    let length = checked_length::<T>(tensor);
    if length == 0 {
        return &[];
    }
    // SAFETY: checked to be contiguous host memory of `length` elements of this type; the borrow keeps the tensor,
    // and with it the memory, alive.
    unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<T>(), length) }
}

/// The elements of a contiguous CPU tensor, mutable. The caller created the tensor, or owns it during an in-place
/// operation: nothing else reads or writes its memory meanwhile.
#[expect(
    clippy::mut_from_ref,
    reason = "tch writes through shared references too; see above for who may call"
)]
pub(crate) fn slice_mut<T: HostElement>(tensor: &Tensor) -> &mut [T] {
    let length = checked_length::<T>(tensor);
    if length == 0 {
        return &mut [];
    }
    // SAFETY: as for `slice`; the callers in this crate meet the condition above.
    unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<T>(), length) }
}

fn checked_length<T: HostElement>(tensor: &Tensor) -> usize {
    let fits = tensor.device() == Device::Cpu && tensor.is_contiguous() && tensor.kind() == T::KIND;
    assert!(fits, "a kernel does not support {tensor:?}");
    tensor.numel()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_to_bf16_is_to_nearest_even() {
        let values = (0..100_000u32).map(|i| f32::from_bits(i.wrapping_mul(2_654_435_761)));
        for value in values.chain([0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::MAX]) {
            let (ours, theirs) = (<bf16 as HostFloat>::narrow(value), bf16::from_f32(value));
            assert!(ours == theirs || (ours.is_nan() && theirs.is_nan()), "{value}");
        }
    }
}
