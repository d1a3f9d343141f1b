//! Where a model runs and in which element type.

use tch::{Device, Kind};
use videosdgx_api::{DeviceChoice, DtypeChoice};

use crate::TensorError;

/// The device that a word of the configuration means here.
///
/// # Errors
/// [`TensorError::Device`] when a CUDA device is asked for and is not there.
pub fn resolve_device(choice: DeviceChoice) -> Result<Device, TensorError> {
    match choice {
        DeviceChoice::Auto => Ok(Device::cuda_if_available()),
        DeviceChoice::Cpu => Ok(Device::Cpu),
        DeviceChoice::Cuda(index) if i64::from(index) < tch::Cuda::device_count() => {
            Ok(Device::Cuda(index as usize))
        }
        DeviceChoice::Cuda(_) => Err(TensorError::Device(choice.to_string())),
    }
}

/// The libtorch type to compute in on `device`; `auto` is bf16 on a GPU and on a CPU that multiplies bf16 in hardware,
/// else f32.
pub fn resolve_kind(choice: DtypeChoice, device: Device) -> Kind {
    match choice {
        DtypeChoice::Bf16 => Kind::BFloat16,
        DtypeChoice::F16 => Kind::Half,
        DtypeChoice::F32 => Kind::Float,
        DtypeChoice::Auto if device.is_cuda() || cpu_has_bf16() => Kind::BFloat16,
        DtypeChoice::Auto => Kind::Float,
    }
}

/// Threads that libtorch computes one operation with, on the CPU.
pub fn set_threads(threads: u16) {
    tch::set_num_threads(i32::from(threads.max(1)));
}

/// Makes libtorch's threads sleep while they wait for work; to be called first in `main`.
///
/// GNU's OpenMP, which libtorch brings along, spins otherwise, and whenever another process needs the processor the
/// threads wait for one another in vain: on a busy machine a transformer step of the demonstration checkpoint took 220 ms
/// instead of 13. The library reads the setting when the process starts, so a process without it starts itself again,
/// under the same process id. An `OMP_WAIT_POLICY` that is set is respected.
pub fn use_passive_waiting() {
    use std::os::unix::process::CommandExt as _;
    const POLICY: &str = "OMP_WAIT_POLICY";
    if std::env::var_os(POLICY).is_some() || !cfg!(target_os = "linux") {
        return;
    }
    let mut arguments = std::env::args_os();
    let mut again = std::process::Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    let error = again.args(arguments).env(POLICY, "passive").exec();
    tracing::warn!(%error, "could not start again with {POLICY}=passive; a busy machine will slow the threads down");
}

/// Whether this CPU multiplies bf16 in hardware (AVX-512 BF16, AMX, or Arm's BF16).
pub fn cpu_has_bf16() -> bool {
    let Ok(text) = std::fs::read_to_string("/proc/cpuinfo") else { return false };
    let flags = text.lines().find(|line| line.starts_with("flags") || line.starts_with("Features"));
    flags.is_some_and(|line| {
        line.split_whitespace().any(|flag| ["avx512_bf16", "amx_bf16", "bf16"].contains(&flag))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_not_there_is_refused() {
        let refused = resolve_device(DeviceChoice::Cuda(99));
        assert!(matches!(refused, Err(TensorError::Device(name)) if name == "cuda:99"));
        assert!(resolve_device(DeviceChoice::Cpu).is_ok_and(|device| device == Device::Cpu));
    }

    #[test]
    fn types_are_libtorchs() {
        assert_eq!(resolve_kind(DtypeChoice::F32, Device::Cuda(0)), Kind::Float);
        assert_eq!(resolve_kind(DtypeChoice::Auto, Device::Cuda(0)), Kind::BFloat16);
        assert_eq!(resolve_kind(DtypeChoice::F16, Device::Cpu), Kind::Half);
    }
}
