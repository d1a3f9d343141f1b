//! What survives: killed processes, restarts, full disks and broken files.

mod full;
mod killed;
mod restarts;
mod support;
