//! Memory of the machine and of the process.

use std::{fmt, sync::Mutex};

use sysinfo::{MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// Memory of the machine (or of the container, if that is less), in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Total memory.
    pub total: u64,
    /// What new allocations could take: `MemAvailable`, or the limit of the control group minus its resident (not
    /// cached) pages, whichever is less.
    pub available: u64,
}

/// Where a budget reads the memory from.
pub trait MemoryProbe: Send + Sync + 'static {
    /// The memory now; `None` when the system does not report it.
    fn memory(&self) -> Option<Memory>;
}

/// The memory of this system: `/proc/meminfo` and control groups, version 1 and 2.
pub struct SystemMemory(Mutex<Option<System>>);

impl SystemMemory {
    /// A probe of this system.
    #[must_use]
    pub fn new() -> Self {
        Self(Mutex::new(System::new().ok()))
    }
}

impl Default for SystemMemory {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SystemMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SystemMemory")
    }
}

impl MemoryProbe for SystemMemory {
    fn memory(&self) -> Option<Memory> {
        let mut guard = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let system = guard.as_mut()?;
        system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        let own = Pid::from_u32(std::process::id());
        system.refresh_processes_specifics(
            ProcessesToUpdate::Some(&[own]),
            true,
            ProcessRefreshKind::nothing().without_tasks(),
        );
        // A limit set on the process's own group (a systemd unit) counts as well as one on the container's root.
        let limits = [system.process(own).and_then(sysinfo::Process::cgroup_limits), system.cgroup_limits()];
        let whole = Memory { total: system.total_memory(), available: system.available_memory() };
        let limited = limits.into_iter().flatten().fold(whole, |memory, limit| Memory {
            total: memory.total.min(limit.total_memory),
            available: memory.available.min(limit.total_memory.saturating_sub(limit.rss)),
        });
        (limited.total > 0).then_some(limited)
    }
}

/// Resident bytes of this process; 0 where the system does not report them.
#[must_use]
pub fn process_resident_bytes() -> u64 {
    let kib = std::fs::read_to_string("/proc/self/status").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("VmRSS:"))?;
        line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()
    });
    kib.map_or(0, |kib| kib * 1024)
}
