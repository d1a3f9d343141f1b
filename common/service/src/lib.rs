//! The skeleton of a video service on [`videosdgx_shell`]: everything between a socket and an [`Engine`]. It guarantees that a job
//! answered with `202` survives the process, that its file appears by rename before the commit that announces it, that nothing in
//! a request makes the process panic, and that SIGTERM lets running work end within the grace time. It never links libtorch.
//!
//! A service's `main` is [`main()`] and an [`Engine`]; [`Running`] is the same inside another program, for tests.

mod attachment;
mod attempt;
mod context;
mod engine;
mod estimate;
mod exchange;
#[cfg(feature = "fake")]
pub mod fake;
mod job_path;
mod job_view;
pub mod limits;
mod lora_limits;
mod main_loop;
mod metrics;
mod openapi;
mod output_file;
mod outputs;
pub mod picture_input;
mod previews;
mod problem_response;
mod range;
mod retention;
mod routes;
mod running_job;
mod server;
mod service;
mod settings;
pub mod sound_input;
mod worker;

pub use context::{Cancelled, GenerateContext, Interrupt, InterruptReason};
pub use engine::{Engine, EngineError, is_storage_shortage};
pub use main_loop::main;
pub use openapi::document as openapi_document;
pub use previews::{Previews, write_picture};
pub use server::{Running, StartError};
pub use settings::VideoSettings;
pub use videosdgx_model::ModelError;
pub use videosdgx_shell::ServiceConfig;
