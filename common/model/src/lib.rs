//! A model in memory only while it is wanted, and what the machine can carry.
//!
//! [`ModelLoader`] owns one model and one inference thread, on which the model is loaded, used and dropped (libtorch's
//! OpenMP makes a pool for each calling thread, and tensors are `Send`, not `Sync`). Nothing is loaded at start; the first use
//! loads once however many ask; an idle timer unloads. Its rules are a pure state machine, [`machine::Machine`].
//! [`MemoryBudget`] refuses a load before the allocator fails; [`Host`] and [`gpu::gpus`] say what the machine is.
//! No libtorch in here: the model is whatever [`Load::Model`] is.

mod budget;
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

pub use budget::{Evictable, MemoryBudget, Permit, Shortage, ShortageHook};
pub use error::{GENERATION_FAILED, LoaderError, ModelError};
pub use host::Host;
pub use load::{Load, LoaderConfig, ReleaseHook};
pub use loader::ModelLoader;
pub use memory::{Memory, MemoryProbe, SystemMemory, process_resident_bytes};
pub use snapshot::{Freed, Snapshot, State};
