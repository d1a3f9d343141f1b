//! Choice of the device and the element type of a model.

use tch::{Device, Kind};
use videosdgx_api::{DeviceChoice, DtypeChoice};

use crate::TensorError;

/// The libtorch device for a configured choice; `auto` is the first CUDA device if there is one, else the CPU.
///
/// # Errors
/// [`TensorError::Device`] when a CUDA device is configured and not available.
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

/// The element type to compute with on `device`. `auto` is bf16 on a GPU and on a CPU with bf16 instructions, else
/// f32.
pub fn resolve_kind(choice: DtypeChoice, device: Device) -> Kind {
    match choice {
        DtypeChoice::Bf16 => Kind::BFloat16,
        DtypeChoice::F16 => Kind::Half,
        DtypeChoice::F32 => Kind::Float,
        DtypeChoice::Auto if device.is_cuda() || cpu_has_bf16() => Kind::BFloat16,
        DtypeChoice::Auto => Kind::Float,
    }
}

/// Sets the number of threads that libtorch uses for one operation on the CPU.
pub fn set_threads(threads: u16) {
    tch::set_num_threads(i32::from(threads.max(1)));
}

/// Makes libtorch's threads sleep while they wait for work. Call it first in `main`: it may restart the process.
///
/// GNU's OpenMP, which libtorch includes, spins by default, which wastes the processor time that other processes
/// need: on a busy machine a transformer step of the demonstration checkpoint took 220 ms instead of 13. The library
/// reads the setting `OMP_WAIT_POLICY` when the process starts, so a process without it executes itself again under
/// the same process id. A value that is already set is kept.
#[expect(clippy::disallowed_methods, reason = "settings are read here")]
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
    tracing::warn!(%error, "could not restart with {POLICY}=passive; threads will be slow on a busy machine");
}

/// Whether this CPU has bf16 multiplication (AVX-512 BF16, AMX, or Arm's BF16).
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
    fn a_missing_device_is_rejected() {
        let refused = resolve_device(DeviceChoice::Cuda(99));
        assert!(matches!(refused, Err(TensorError::Device(name)) if name == "cuda:99"));
        assert!(resolve_device(DeviceChoice::Cpu).is_ok_and(|device| device == Device::Cpu));
    }

    #[test]
    fn element_types_map_to_libtorch() {
        assert_eq!(resolve_kind(DtypeChoice::F32, Device::Cuda(0)), Kind::Float);
        assert_eq!(resolve_kind(DtypeChoice::Auto, Device::Cuda(0)), Kind::BFloat16);
        assert_eq!(resolve_kind(DtypeChoice::F16, Device::Cpu), Kind::Half);
    }
}
