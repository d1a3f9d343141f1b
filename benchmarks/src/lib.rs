//! What the measuring programs share: their device, and the memory of process and device.

use anyhow::Result;
use videosdgx_tensor::{ChosenDevice, Device, DeviceChoice, choose_device, cuda_memory};

/// The device that `VIDEOSDGX_DEVICE` names, by default the CPU. Call it before anything else of libtorch.
///
/// # Errors
/// When the device is not available.
#[expect(clippy::disallowed_methods, reason = "settings are read here")]
pub fn device() -> Result<ChosenDevice> {
    let choice = std::env::var("VIDEOSDGX_DEVICE").ok().filter(|choice| !choice.is_empty());
    Ok(choose_device(choice.map_or(Ok(DeviceChoice::Cpu), |choice| choice.parse())?)?)
}

/// Used memory of a GPU in MB (10⁶ bytes), as its driver reports it; `None` on the CPU. Other processes count too.
#[must_use]
pub fn device_memory_mb(chosen: &ChosenDevice) -> Option<f64> {
    let Device::Cuda(index) = chosen.device else { return None };
    let (free, total) = cuda_memory(index)?;
    Some((total - free) as f64 / 1e6)
}

/// Starts a new peak at the memory in use now. Without permission to do so, the peak remains the highest of the whole run.
pub fn reset_peak_memory() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Highest resident memory since the start or the last reset, in MB (10⁶ bytes); 0 where the kernel does not say.
#[must_use]
pub fn peak_memory_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) * 1024.0 / 1e6
}
