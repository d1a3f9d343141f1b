//! Log lines on standard error.

use tracing_subscriber::{EnvFilter, fmt};

use crate::{ConfigError, LogFormat, ServiceConfig};

/// Log targets of the framework that are reduced: starts and stops, which the service logs itself, and an error for each malformed request.
const QUIET: [&str; 2] = ["actix_server=warn", "actix_http::h1::dispatcher=off"];

/// Starts logging as configured. Does nothing when a subscriber is already installed.
///
/// # Errors
/// When `LOG_LEVEL` is not a level or a list of directives.
pub fn start_logging(config: &ServiceConfig) -> Result<(), ConfigError> {
    let filter = EnvFilter::try_new(&config.log_level).map_err(|error| ConfigError::Variable {
        variable: "LOG_LEVEL",
        reason: format!("error, warn, info, debug or trace, not {:?} ({error})", config.log_level),
    })?;
    let filter =
        QUIET.iter().filter_map(|directive| directive.parse().ok()).fold(filter, EnvFilter::add_directive);
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match config.log_format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_span_list(true).try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging_was_started_before");
    }
    Ok(())
}
