//! The skeleton of a service. [`shell`] is what every service has; the rest is a video service: everything between a socket and
//! an [`Engine`]. It promises that a job answered with
//! `202` survives the process, that its file appears by rename before the commit that announces it, that nothing in a
//! request makes the process panic, and that SIGTERM cuts nobody off. It never links libtorch.
//!
//! A service's `main` is [`main()`] and an [`Engine`]; [`Running`] is the same inside another program, for tests.

mod attempt;
mod config;
mod context;
mod engine;
mod estimate;
#[cfg(feature = "fake")]
pub mod fake;
pub mod first_frame;
mod job_path;
mod job_view;
pub mod limits;
mod main_loop;
mod metrics;
mod openapi;
mod outputs;
mod problem_response;
mod range;
mod routes;
mod running_job;
mod server;
mod service;
pub mod shell;
mod sweep;
mod variables;
mod worker;

pub use config::{ConfigError, LogFormat, ServiceConfig};
pub use context::{Cancelled, GenerateContext, Interrupt, InterruptReason};
pub use engine::{Engine, EngineError};
pub use main_loop::main;
pub use openapi::document as openapi_document;
pub use server::{Running, StartError};
pub use shell::start_logging;
pub use variables::Variables;
