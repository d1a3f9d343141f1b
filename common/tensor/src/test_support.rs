//! Functions that the unit tests of this crate share.

#[path = "../../../tests/fixtures/device.rs"]
mod device;

pub(crate) use device::device;
use tch::{Device, Kind, Tensor};

/// Seeds libtorch's random numbers, which counts as a use of libtorch: the device is chosen before.
pub(crate) fn seed(seed: i64) {
    let _ = device();
    tch::manual_seed(seed);
}

/// ‖left − right‖ / ‖right‖, computed in f64.
pub(crate) fn relative_error(left: &Tensor, right: &Tensor) -> f64 {
    let [left, right] = [left, right].map(|tensor| tensor.to_device(Device::Cpu).to_kind(Kind::Double));
    f64::try_from((left - &right).norm() / right.norm()).expect("a number")
}
