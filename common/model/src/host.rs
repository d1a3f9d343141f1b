//! Description of this machine, for `/info`.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use sysinfo::{CpuRefreshKind, System};
use videosdgx_api::{Gpu, MemoryReport, SystemReport};

use crate::{MemoryProbe, SystemMemory, gpu, process_resident_bytes};

const GB: f64 = 1e9;
/// The driver is queried at most this often.
const GPU_REFRESH: Duration = Duration::from_secs(1);

/// The machine: processor, memory, GPUs. Cheap to query repeatedly.
pub struct Host {
    cpu: String,
    cpu_count: u32,
    memory: Arc<dyn MemoryProbe>,
    gpus: Mutex<Option<(Instant, Vec<Gpu>)>>,
}

impl Host {
    /// Reads the machine's fixed properties once; memory and GPUs are read at each request.
    #[must_use]
    pub fn probe() -> Self {
        let mut cpu = String::new();
        let mut cpu_count =
            std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
        if let Ok(mut system) = System::new() {
            system.refresh_cpu_specifics(CpuRefreshKind::nothing());
            cpu = system.cpus().first().map(|cpu| cpu.brand().trim().to_owned()).unwrap_or_default();
            cpu_count = u32::try_from(system.cpus().len()).unwrap_or(cpu_count).max(1);
        }
        if cpu.is_empty() {
            std::env::consts::ARCH.clone_into(&mut cpu);
        }
        Self { cpu, cpu_count, memory: Arc::new(SystemMemory::new()), gpus: Mutex::new(None) }
    }

    /// Memory of host and process now.
    #[must_use]
    pub fn memory(&self) -> MemoryReport {
        let memory = self.memory.memory();
        MemoryReport {
            allocated_gb: process_resident_bytes() as f64 / GB,
            free_gb: memory.map_or(0.0, |memory| memory.available as f64 / GB),
            total_gb: memory.map_or(0.0, |memory| memory.total as f64 / GB),
        }
    }

    /// GPUs now (at most a second old); empty without a driver.
    #[must_use]
    pub fn gpus(&self) -> Vec<Gpu> {
        let mut known = self.gpus.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &*known {
            Some((at, gpus)) if at.elapsed() < GPU_REFRESH => gpus.clone(),
            _ => {
                let gpus = gpu::gpus();
                *known = Some((Instant::now(), gpus.clone()));
                gpus
            }
        }
    }

    /// Everything, in the form of the API.
    #[must_use]
    pub fn report(&self) -> SystemReport {
        SystemReport {
            cpu: self.cpu.clone(),
            cpu_count: self.cpu_count,
            memory: self.memory(),
            gpus: self.gpus(),
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("cpu", &self.cpu)
            .field("cpu_count", &self.cpu_count)
            .finish_non_exhaustive()
    }
}
