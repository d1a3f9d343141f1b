//! The `main` of a text service.

use std::process::ExitCode;

use videosdgx_shell::ServiceConfig;

use crate::{Running, TextBackend, TextSettings, openapi};

/// The `main` of a text service: reads the environment, builds the backend and serves until SIGTERM or SIGINT.
///
/// ```no_run
/// # use videosdgx_text_service::{TextBackend, ServiceConfig};
/// # fn build<B: TextBackend>(_: &ServiceConfig) -> Result<B, String> { Err(String::new()) }
/// # fn qwen3<B: TextBackend>() -> std::process::ExitCode {
/// videosdgx_text_service::main("qwen3-4b", 8006, |config| build::<B>(config))
/// # }
/// ```
pub fn main<B: TextBackend>(
    name: &str,
    default_port: u16,
    build: impl FnOnce(&ServiceConfig) -> Result<B, String>,
) -> ExitCode {
    videosdgx_shell::main(
        name,
        default_port,
        openapi::document,
        |config| {
            let settings = TextSettings::from_env().map_err(|error| error.to_string())?;
            Ok((build(config)?, settings))
        },
        async |(backend, settings), config| Running::start(backend, config, settings).await,
    )
}
