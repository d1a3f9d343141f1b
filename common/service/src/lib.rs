//! The skeleton of a video service: everything between a socket and an [`Engine`]. It promises that a job answered with
//! `202` survives the process, that its file appears by rename before the commit that announces it, that nothing in a
//! request makes the process panic, and that SIGTERM cuts nobody off. It never links libtorch.

mod context;
mod engine;
pub mod first_frame;
pub mod limits;

pub use context::{Cancelled, GenerateContext, Interrupt, InterruptReason};
pub use engine::{Engine, EngineError};
