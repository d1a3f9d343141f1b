//! The skeleton of a video service: everything between a socket and an [`Engine`]. It promises that a job answered with
//! `202` survives the process, that its file appears by rename before the commit that announces it, that nothing in a
//! request makes the process panic, and that SIGTERM cuts nobody off. It never links libtorch.
//!
//! A service's `main` is [`main()`] and an [`Engine`]; [`Running`] is the same inside another program, for tests.

mod attempt;
mod body;
mod config;
mod context;
mod drain;
mod edge;
mod engine;
mod estimate;
#[cfg(feature = "fake")]
pub mod fake;
pub mod first_frame;
mod identity;
mod job_view;
pub mod limits;
mod loading;
mod main_loop;
mod metrics;
mod openapi;
mod outputs;
mod probe;
mod problem_response;
mod query;
mod range;
mod routes;
mod server;
mod service;
mod sweep;
mod telemetry;
mod worker;

pub use config::{
    ConfigError, DeviceChoice, DtypeChoice, LogFormat, NoSuchChoice, QuantizationChoice, ServiceConfig,
};
pub use context::{Cancelled, GenerateContext, Interrupt, InterruptReason};
pub use engine::{Engine, EngineError};
pub use main_loop::{main, run};
pub use openapi::document as openapi_document;
pub use server::{Running, StartError};
pub use telemetry::start_logging;
