//! What the black-box suite shares: real processes on free ports in temporary folders.
//!
//! The suite (`tests/tests/`) starts the programs that `cargo build --workspace` made, beside its own executable, and
//! talks to them over HTTP only. Python clients written by others run from the environment of `scripts/test`.

mod api;
mod chat;
mod process;
mod python;
mod stack;

pub use api::Api;
pub use chat::{ChatEvents, Told};
pub use process::{Process, binary};
pub use python::{root, run_python};
pub use stack::{Service, Stack, StackBuilder};
