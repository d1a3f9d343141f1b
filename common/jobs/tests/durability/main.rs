//! What survives: killed processes, restarts, full disks and broken files.

#![expect(clippy::disallowed_methods, reason = "tests read variables of their own")]

mod full;
mod killed;
mod restarts;
mod support;
