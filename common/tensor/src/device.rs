//! Where a model runs and in which element type.

use std::fmt;
use std::str::FromStr;

use tch::{Device, Kind};

use crate::TensorError;

/// The configured device: `auto`, `cpu`, `cuda` or `cuda:1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The first CUDA device when there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A CUDA device by its index.
    Cuda(usize),
}

impl DeviceChoice {
    /// # Errors
    /// [`TensorError::Device`] when a CUDA device is asked for and is not there.
    pub fn resolve(self) -> Result<Device, TensorError> {
        match self {
            Self::Auto => Ok(Device::cuda_if_available()),
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(index) if (index as i64) < tch::Cuda::device_count() => Ok(Device::Cuda(index)),
            Self::Cuda(index) => Err(TensorError::Device(format!("cuda:{index}"))),
        }
    }
}

/// The configured element type: `auto`, `bf16`, `f16` or `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KindChoice {
    /// bf16 on a GPU and on a CPU that multiplies bf16 in hardware, else f32.
    #[default]
    Auto,
    /// bfloat16.
    Bf16,
    /// IEEE half precision.
    F16,
    /// Single precision.
    F32,
}

impl KindChoice {
    /// The libtorch type to compute in on `device`.
    pub fn resolve(self, device: Device) -> Kind {
        match self {
            Self::Bf16 => Kind::BFloat16,
            Self::F16 => Kind::Half,
            Self::F32 => Kind::Float,
            Self::Auto if device.is_cuda() || cpu_has_bf16() => Kind::BFloat16,
            Self::Auto => Kind::Float,
        }
    }
}

/// How the weights of large linears are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Quantization {
    /// As the compute type.
    #[default]
    None,
    /// e4m3 with one f32 scale an output channel, quantised while loading.
    Fp8,
}

/// A word of the configuration that is none of the known ones.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} {given:?}; use {known}")]
pub struct UnknownChoice {
    what: &'static str,
    given: String,
    known: &'static str,
}

impl FromStr for DeviceChoice {
    type Err = UnknownChoice;
    fn from_str(text: &str) -> Result<Self, UnknownChoice> {
        let index = text.strip_prefix("cuda:").and_then(|index| index.parse().ok());
        match (text, index) {
            ("auto", _) => Ok(Self::Auto),
            ("cpu", _) => Ok(Self::Cpu),
            ("cuda", _) => Ok(Self::Cuda(0)),
            (_, Some(index)) => Ok(Self::Cuda(index)),
            _ => Err(UnknownChoice { what: "device", given: text.into(), known: "auto, cpu or cuda:0" }),
        }
    }
}

impl FromStr for KindChoice {
    type Err = UnknownChoice;
    fn from_str(text: &str) -> Result<Self, UnknownChoice> {
        match text {
            "auto" => Ok(Self::Auto),
            "bf16" => Ok(Self::Bf16),
            "f16" => Ok(Self::F16),
            "f32" => Ok(Self::F32),
            _ => Err(UnknownChoice { what: "dtype", given: text.into(), known: "auto, bf16, f16 or f32" }),
        }
    }
}

impl FromStr for Quantization {
    type Err = UnknownChoice;
    fn from_str(text: &str) -> Result<Self, UnknownChoice> {
        match text {
            "none" => Ok(Self::None),
            "fp8" => Ok(Self::Fp8),
            _ => Err(UnknownChoice { what: "quantization", given: text.into(), known: "none or fp8" }),
        }
    }
}

impl fmt::Display for Quantization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Fp8 => "fp8",
        })
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
pub fn sleep_while_waiting() {
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
    fn words_of_the_configuration_parse() {
        assert_eq!("cuda:1".parse(), Ok(DeviceChoice::Cuda(1)));
        assert_eq!("auto".parse(), Ok(KindChoice::Auto));
        assert_eq!("fp8".parse(), Ok(Quantization::Fp8));
        assert!("cuda:x".parse::<DeviceChoice>().is_err());
        assert!("int4".parse::<Quantization>().is_err_and(|error| error.to_string().contains("none or fp8")));
    }

    #[test]
    fn a_device_that_is_not_there_is_refused() {
        assert!(
            matches!(DeviceChoice::Cuda(99).resolve(), Err(TensorError::Device(name)) if name == "cuda:99")
        );
    }
}
