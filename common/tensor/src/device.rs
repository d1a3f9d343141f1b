//! Choice of the device and the element type of a model.

use std::fmt;

use tch::{Device, Kind};
use videosdgx_api::{DeviceChoice, DtypeChoice};

use crate::TensorError;
use crate::cuda::{Cuda, CudaDevice, cuda, mark_in_use};

/// Where a model computes, and why there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenDevice {
    /// The device.
    pub device: Device,
    /// What the choice follows from, for example `libtorch has no CUDA` or `NVIDIA GB10, capability 12.1`.
    pub reason: String,
}

impl ChosenDevice {
    /// The device as `/info` shows it: `cpu` or `cuda:0`.
    #[must_use]
    pub fn name(&self) -> String {
        match self.device {
            Device::Cuda(index) => format!("cuda:{index}"),
            Device::Cpu => "cpu".to_owned(),
            Device::Mps => "mps".to_owned(),
            Device::Vulkan => "vulkan".to_owned(),
        }
    }
}

/// The CPU, as it was configured.
impl Default for ChosenDevice {
    fn default() -> Self {
        Self { device: Device::Cpu, reason: "as configured".to_owned() }
    }
}

impl fmt::Display for ChosenDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name(), self.reason)
    }
}

/// The libtorch device for a configured choice; `auto` is the first CUDA device if there is one, else the CPU. Unless the CPU
/// is configured, this opens libtorch's CUDA part, so it must precede every other use of libtorch. The choice is logged.
///
/// # Errors
/// [`TensorError::Device`] with the reason when a CUDA device is configured and not available.
pub fn choose_device(choice: DeviceChoice) -> Result<ChosenDevice, TensorError> {
    let chosen = match choice {
        DeviceChoice::Cpu => ChosenDevice::default(),
        DeviceChoice::Auto | DeviceChoice::Cuda(_) => decide(choice, cuda())?,
    };
    let (device, reason) = (chosen.name(), &chosen.reason);
    if chosen.device.is_cuda() {
        mark_in_use();
        tracing::info!(device, reason, "device_chosen");
    } else if choice == DeviceChoice::Auto && *cuda() != Cuda::Absent {
        tracing::warn!(device, reason, "device_chosen");
    } else {
        tracing::info!(device, reason, "device_chosen");
    }
    Ok(chosen)
}

fn decide(choice: DeviceChoice, cuda: &Cuda) -> Result<ChosenDevice, TensorError> {
    let index = match choice {
        DeviceChoice::Cpu => return Ok(ChosenDevice::default()),
        DeviceChoice::Auto => 0,
        DeviceChoice::Cuda(index) => index as usize,
    };
    let reason = match cuda {
        Cuda::Absent => "libtorch has no CUDA".to_owned(),
        Cuda::NotLoaded(reason) => format!("libtorch_cuda cannot be loaded: {reason}"),
        Cuda::NoDevice(reason) => format!("libtorch_cuda loaded, {reason}"),
        Cuda::Devices(devices) => match devices.get(index) {
            Some(CudaDevice { name, capability: (major, minor) }) => {
                let reason = format!("{name}, capability {major}.{minor}");
                return Ok(ChosenDevice { device: Device::Cuda(index), reason });
            }
            None => format!("libtorch_cuda loaded, the driver has {} devices", devices.len()),
        },
    };
    match choice {
        DeviceChoice::Cuda(_) => Err(TensorError::Device { device: choice.to_string(), reason }),
        _ => Ok(ChosenDevice { device: Device::Cpu, reason }),
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

    fn gb10() -> Cuda {
        Cuda::Devices(vec![CudaDevice { name: "NVIDIA GB10".into(), capability: (12, 1) }])
    }

    #[test]
    fn the_choice_says_what_it_follows_from() {
        let no_driver = "no driver: libcuda.so.1: cannot open shared object file";
        for (cuda, expected) in [
            (Cuda::Absent, "cpu: libtorch has no CUDA".to_owned()),
            (
                Cuda::NotLoaded("x.so: missing".into()),
                "cpu: libtorch_cuda cannot be loaded: x.so: missing".into(),
            ),
            (Cuda::NoDevice(no_driver.into()), format!("cpu: libtorch_cuda loaded, {no_driver}")),
            (gb10(), "cuda:0: NVIDIA GB10, capability 12.1".into()),
        ] {
            let chosen = decide(DeviceChoice::Auto, &cuda).expect("auto is always possible");
            assert_eq!(chosen.to_string(), expected);
            assert_eq!(chosen.device.is_cuda(), cuda == gb10());
            assert_eq!(
                decide(DeviceChoice::Cpu, &cuda).expect("the CPU is there").to_string(),
                "cpu: as configured"
            );
        }
    }

    #[test]
    fn a_missing_device_is_refused_with_the_reason() {
        let no_device = Cuda::NoDevice("no CUDA-capable device is detected (cuInit: 100)".into());
        for (index, cuda, reason) in [
            (0, Cuda::Absent, "libtorch has no CUDA"),
            (0, no_device, "libtorch_cuda loaded, no CUDA-capable device is detected (cuInit: 100)"),
            (1, gb10(), "libtorch_cuda loaded, the driver has 1 devices"),
        ] {
            let refused = decide(DeviceChoice::Cuda(index), &cuda).expect_err("there is none").to_string();
            assert_eq!(refused, format!("device cuda:{index} is not available: {reason}; use auto or cpu"));
        }
        let refused = choose_device(DeviceChoice::Cuda(99));
        assert!(matches!(refused, Err(TensorError::Device { device, .. }) if device == "cuda:99"));
    }

    #[test]
    fn element_types_map_to_libtorch() {
        assert_eq!(resolve_kind(DtypeChoice::F32, Device::Cuda(0)), Kind::Float);
        assert_eq!(resolve_kind(DtypeChoice::Auto, Device::Cuda(0)), Kind::BFloat16);
        assert_eq!(resolve_kind(DtypeChoice::F16, Device::Cpu), Kind::Half);
    }
}
