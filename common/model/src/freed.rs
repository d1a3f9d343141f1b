//! How much memory an unload has freed.

use videosdgx_api::Gpu;

use crate::{Freed, MemoryProbe, gpu, process_resident_bytes};

/// Memory use before an unload, to be compared with the use afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    /// Resident bytes of this process.
    resident: u64,
    /// Bytes in use on GPUs with memory of their own.
    on_devices: u64,
    /// Available bytes of the machine, where a GPU shares its memory: its allocations are not in the process's resident memory.
    unified_available: Option<u64>,
}

impl Held {
    /// Reads the present memory use.
    pub(crate) fn now(memory: &dyn MemoryProbe) -> Self {
        let gpus = gpu::gpus();
        let unified = gpus.iter().any(|gpu| gpu.unified_memory);
        Self {
            resident: process_resident_bytes(),
            on_devices: gpus.iter().filter_map(|gpu: &Gpu| gpu.memory_used_bytes).sum(),
            unified_available: if unified { memory.memory().map(|memory| memory.available) } else { None },
        }
    }

    /// Bytes released between `self` and `after`.
    pub(crate) fn freed(self, after: Self) -> Freed {
        let resident = self.resident.saturating_sub(after.resident);
        let on_devices = self.on_devices.saturating_sub(after.on_devices);
        let unified = match (self.unified_available, after.unified_available) {
            (Some(before), Some(after)) => after.saturating_sub(before),
            _ => 0,
        };
        let freed_bytes = resident.saturating_add(on_devices).max(unified);
        Freed { was_loaded: true, freed_bytes, resident_bytes: after.resident }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(resident: u64, on_devices: u64, unified_available: Option<u64>) -> Held {
        Held { resident, on_devices, unified_available }
    }

    #[test]
    fn memory_is_counted_where_it_was() {
        assert_eq!(held(100, 0, None).freed(held(40, 0, None)).freed_bytes, 60);
        assert_eq!(held(100, 900, None).freed(held(90, 100, None)).freed_bytes, 810);
        // On unified memory the weights belong to the GPU: hardly any of them are resident.
        assert_eq!(held(100, 0, Some(50)).freed(held(95, 0, Some(750))).freed_bytes, 700);
        let grown = held(100, 5, Some(50)).freed(held(120, 9, Some(10)));
        assert_eq!((grown.freed_bytes, grown.resident_bytes), (0, 120));
    }
}
