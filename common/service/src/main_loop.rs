//! The `main` of a video service.

use std::process::ExitCode;

use videosdgx_shell::ServiceConfig;

use crate::{Engine, Running, VideoSettings, openapi};

/// The `main` of a video service: reads the environment, builds the engine, serves until SIGTERM or SIGINT.
///
/// ```no_run
/// # use videosdgx_service::{Engine, ServiceConfig};
/// # fn build<E: Engine>(_: &ServiceConfig) -> Result<E, String> { Err(String::new()) }
/// # fn wan21<E: Engine>() -> std::process::ExitCode {
/// videosdgx_service::main("wan21", |config| build::<E>(config))
/// # }
/// ```
pub fn main<E: Engine>(name: &str, build: impl FnOnce(&ServiceConfig) -> Result<E, String>) -> ExitCode {
    videosdgx_shell::main(
        name,
        openapi::document,
        |config| {
            let settings = VideoSettings::from_env(&config.name).map_err(|error| error.to_string())?;
            Ok((build(config)?, settings))
        },
        async |(engine, settings), config| Running::start(engine, config, settings).await,
    )
}
