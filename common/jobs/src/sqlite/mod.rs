//! The embedded driver: SQLite in WAL mode with `synchronous=FULL`, one process, one writing thread with group commit, one
//! reading thread.
//!
//! The state folder has one owner at a time (an exclusive lock on `jobs.lock`). Leases found in the database at start belong to
//! a process that has ended, so their jobs are queued again at once, for the next attempt.

mod command;
mod names;
mod owner;
mod queue;
mod reader;
mod rows;
mod schema;
mod store;
mod writer;

pub use queue::{SqliteOptions, SqliteQueue};
