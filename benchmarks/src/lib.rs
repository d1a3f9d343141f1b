//! What the measuring programs share: the peak of a process's resident memory.

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
