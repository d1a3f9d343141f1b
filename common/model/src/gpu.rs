//! GPUs as NVIDIA's driver reports them.

use std::sync::OnceLock;

use nvml_wrapper::{Nvml, enum_wrappers::device::TemperatureSensor, error::NvmlError};
use videosdgx_api::Gpu;

/// The driver's library, which is searched once; without it no GPU is reported.
fn nvml() -> Option<&'static Nvml> {
    static NVML: OnceLock<Option<Nvml>> = OnceLock::new();
    NVML.get_or_init(|| {
        // Machines with a driver but no development files have only the versioned name.
        Nvml::init()
            .or_else(|_| Nvml::builder().lib_path("libnvidia-ml.so.1".as_ref()).init())
            .inspect_err(|error| tracing::debug!(%error, "no_nvml"))
            .ok()
    })
    .as_ref()
}

/// All GPUs with their present state; empty without a driver. On GB10 the driver reports "not supported" for memory, because
/// the GPU uses the host's: such a GPU is `unified_memory`, and the host's memory is what matters.
#[must_use]
pub fn gpus() -> Vec<Gpu> {
    let Some(nvml) = nvml() else { return Vec::new() };
    let count = nvml.device_count().unwrap_or(0);
    (0..count)
        .filter_map(|index| {
            let device = nvml.device_by_index(index).ok()?;
            let memory = device.memory_info();
            let unified_memory = is_unified(memory.as_ref().err());
            let memory = memory.ok();
            Some(Gpu {
                name: device.name().unwrap_or_else(|_| format!("GPU {index}")),
                unified_memory,
                memory_total_bytes: memory.as_ref().map(|memory| memory.total),
                memory_used_bytes: memory.as_ref().map(|memory| memory.used),
                utilization_percent: device.utilization_rates().ok().map(|rates| rates.gpu),
                temperature_celsius: device.temperature(TemperatureSensor::Gpu).ok(),
            })
        })
        .collect()
}

/// Whether this error of the memory query means that the GPU has no memory of its own.
fn is_unified(error: Option<&NvmlError>) -> bool {
    matches!(error, Some(NvmlError::NotSupported))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_not_supported_means_unified_memory() {
        assert!(is_unified(Some(&NvmlError::NotSupported)));
        assert!(!is_unified(Some(&NvmlError::GpuLost)));
        assert!(!is_unified(None));
    }

    #[test]
    fn without_a_driver_there_are_no_gpus_and_no_panic() {
        for gpu in gpus() {
            assert!(!gpu.name.is_empty());
            assert_eq!(gpu.unified_memory, gpu.memory_total_bytes.is_none(), "{gpu:?}");
        }
    }
}
