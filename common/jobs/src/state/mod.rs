//! The queue's rules, without I/O: the same [`Machine`] runs in the simulation and behind the SQLite driver.
//!
//! A driver calls one method for each event, takes the [`Changes`], makes them durable, and only then answers the caller.
//! If it cannot make them durable, it discards the machine and restores one from the stored state.

mod changes;
mod clock;
mod job;
mod machine;
pub mod order;
mod upkeep;
mod worker;

pub use changes::Changes;
pub use clock::{Clock, Time};
pub use job::{Job, Phase};
pub use machine::{GrantedClaim, Machine};
