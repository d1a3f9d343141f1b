//! Loading a model on demand, unloading it when idle, and the memory budget of the machine.
//!
//! [`ModelLoader`] owns one model and one inference thread, on which the model is loaded, used and dropped (libtorch's
//! OpenMP creates a pool for each calling thread, and tensors are `Send`, not `Sync`). Nothing is loaded at start; the first use
//! loads once for all callers; an idle timer unloads. Its rules are a pure state machine, [`machine::Machine`].
//! [`MemoryBudget`] refuses a load before the allocator fails; [`Host`] and [`gpu::gpus`] describe the machine.
//! Does not link libtorch: the model is any type [`Load::Model`].

mod budget;
mod checkpoint;
mod device_failure;
mod error;
mod freed;
pub mod gpu;
mod host;
mod inference;
mod load;
mod loader;
pub mod machine;
mod memory;
mod snapshot;

pub use budget::{Evictable, LoadPermit, MemoryBudget, Shortage, ShortageHook};
pub use checkpoint::{CheckpointFormat, CheckpointLocation, CheckpointSearch, CheckpointVersion};
pub use device_failure::{device_failure, failed_device, report_device_failure};
pub use error::{DEVICE_FAILED, GENERATION_FAILED, LoaderError, ModelError};
pub use host::Host;
pub use load::{Load, LoaderConfig, ReleaseHook};
pub use loader::ModelLoader;
pub use memory::{Memory, MemoryProbe, SystemMemory, process_resident_bytes};
pub use snapshot::{Freed, Snapshot, State};
