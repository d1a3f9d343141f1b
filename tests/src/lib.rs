//! Support of the black-box suite: real processes on free ports in temporary folders.
//!
//! The suite (`tests/tests/`) starts the programs that `cargo build --workspace` made, which are next to its own executable, and
//! talks to them over HTTP only. Published Python clients run from the environment of `scripts/test`.

mod api;
mod browser;
mod chat;
mod process;
mod python;
mod stack;

pub use api::Api;
pub use browser::PageServer;
pub use chat::{ChatEvents, StreamedText};
pub use process::{Process, binary};
pub use python::{root, run_python};
pub use stack::{Service, Stack, StackBuilder};
