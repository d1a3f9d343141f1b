//! A video service's `main`.

use std::process::ExitCode;

use crate::{Engine, Running, ServiceConfig, openapi, shell};

/// All of a video service's `main`: reads the environment, builds the engine, serves until SIGTERM or SIGINT.
///
/// ```no_run
/// # use videosdgx_service::{Engine, ServiceConfig};
/// # fn build<E: Engine>(_: &ServiceConfig) -> Result<E, String> { Err(String::new()) }
/// # fn wan21<E: Engine>() -> std::process::ExitCode {
/// videosdgx_service::main("wan21", 8002, |config| build::<E>(config))
/// # }
/// ```
pub fn main<E: Engine>(
    name: &str,
    default_port: u16,
    build: impl FnOnce(&ServiceConfig) -> Result<E, String>,
) -> ExitCode {
    shell::main(name, default_port, openapi::document, build, Running::start)
}
