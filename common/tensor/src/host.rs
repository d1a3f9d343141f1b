//! libtorch memory on the host as Rust slices: the seam between tensors and our own kernels.

use tch::{Device, Tensor};

/// Types whose every bit pattern is a value and whose layout libtorch shares.
pub(crate) trait HostElement: Copy {
    const KINDS: &'static [tch::Kind];
}

impl HostElement for u8 {
    const KINDS: &'static [tch::Kind] = &[tch::Kind::Uint8];
}
impl HostElement for f32 {
    const KINDS: &'static [tch::Kind] = &[tch::Kind::Float];
}
impl HostElement for half::bf16 {
    const KINDS: &'static [tch::Kind] = &[tch::Kind::BFloat16];
}
impl HostElement for half::f16 {
    const KINDS: &'static [tch::Kind] = &[tch::Kind::Half];
}

/// The elements of a contiguous tensor on the CPU.
pub(crate) fn slice<T: HostElement>(tensor: &Tensor) -> &[T] {
    let length = checked_length::<T>(tensor);
    if length == 0 {
        return &[];
    }
    // SAFETY: checked to be contiguous host memory of `length` elements of this type; the borrow keeps the tensor,
    // and with it the memory, alive.
    unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<T>(), length) }
}

/// The elements of a contiguous tensor on the CPU, to write. The caller made the tensor and holds the only name of its
/// memory.
#[expect(
    clippy::mut_from_ref,
    reason = "tch writes through shared references too; the callers own fresh tensors"
)]
pub(crate) fn slice_mut<T: HostElement>(tensor: &Tensor) -> &mut [T] {
    let length = checked_length::<T>(tensor);
    if length == 0 {
        return &mut [];
    }
    // SAFETY: as for `slice`; the callers in this crate pass tensors whose memory nobody else reads or writes
    // meanwhile (just allocated, or the argument of an in-place operation they own).
    unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<T>(), length) }
}

/// As [`slice_mut`] for bytes.
#[expect(clippy::mut_from_ref, reason = "as for slice_mut")]
pub(crate) fn bytes_mut(tensor: &Tensor) -> &mut [u8] {
    slice_mut::<u8>(tensor)
}

fn checked_length<T: HostElement>(tensor: &Tensor) -> usize {
    let fits = tensor.device() == Device::Cpu && tensor.is_contiguous() && T::KINDS.contains(&tensor.kind());
    assert!(fits, "a kernel of this crate was given {tensor:?}");
    tensor.numel()
}
