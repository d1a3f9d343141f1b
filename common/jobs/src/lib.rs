//! The durable queue. A job that was answered with `202` is never lost to a killed process.
//!
//! [`Queue`] is the contract. The rules are one pure state machine ([`state`]), which the simulation and every
//! driver share; [`QueueOptions`] are the settings of every driver, and [`sqlite::SqliteQueue`] is the embedded driver.
//!
//! - States: `queued → running → completed | failed | cancelled | dead`; a final state is never left.
//! - A [`Claim`] contains `(job, attempt, lease_until)`; every later write carries the attempt as a fencing token, and a
//!   stale one is refused with [`QueueError::Stale`].
//! - Execution is at least once, with exactly one visible result: a worker renames its file into place, then calls
//!   `complete`; if that is refused, it removes the file.
//! - Order of claims: see [`state::order`] (priorities, ageing, fairness, and the bound on waiting).

mod claim;
mod config;
#[cfg(feature = "contract")]
pub mod contract;
mod error;
mod event;
mod keeper;
mod options;
mod private;
mod queue;
mod record;
pub mod sqlite;
pub mod state;
mod submission;
mod totals;

pub use claim::{CancelSignal, Claim, Lease, Signal};
pub use config::{QueueConfig, RetentionPolicy};
pub use error::{QueueError, QueueLimit, StorageError};
pub use event::EventStream;
pub use keeper::LeaseKeeper;
pub use options::{ForgottenHook, QueueDriver, QueueOptions};
pub use private::private_folder;
pub use queue::{Answer, Queue, wait};
pub use record::{
    AttemptOutcome, Cursor, Forgotten, JobFailure, JobOutput, JobPage, JobRecord, ListOrder, ListQuery,
    Progress,
};
pub use submission::{IdempotencyKey, Submission, Submitted};
pub use totals::{Counts, Totals};
pub use videosdgx_api::Principal;
