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
    // A line that cannot be written (disk full, pipe or terminal closed) is lost. Reporting that on standard error, as the
    // library does by default, would panic in the thread that logs.
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    let started = match config.log_format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_span_list(true).try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging_was_started_before");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        process::{Command, Stdio},
    };

    use super::*;

    /// Set in the process that the test starts: the value of `LOG_FORMAT`.
    const CHILD: &str = "VIDEOSDGX_TEST_LOG_FORMAT";

    /// The test starts itself as a process whose standard error cannot be written to.
    #[test]
    fn a_log_line_that_cannot_be_written_does_not_end_the_thread() {
        if let Some(format) = crate::environment(CHILD) {
            let config =
                ServiceConfig::from_lookup("fake", |name| (name == "LOG_FORMAT").then(|| format.clone()));
            start_logging(&config.unwrap()).unwrap();
            let thread = std::thread::spawn(|| tracing::error!("this line is lost"));
            thread.join().expect("the thread continues");
            return;
        }
        for format in ["text", "json"] {
            for (what, stderr) in [("full", full()), ("closed", closed_pipe())] {
                let ended = Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "--nocapture"])
                    .arg("telemetry::tests::a_log_line_that_cannot_be_written_does_not_end_the_thread")
                    .env(CHILD, format)
                    .stderr(stderr)
                    .output()
                    .unwrap();
                let printed = String::from_utf8_lossy(&ended.stdout);
                assert!(ended.status.success(), "{format}, {what}: {printed}");
                assert!(printed.contains("1 passed"), "{printed}");
            }
        }
    }

    /// A full disk.
    fn full() -> Stdio {
        File::options().write(true).open("/dev/full").unwrap().into()
    }

    /// A pipe whose reader has gone.
    fn closed_pipe() -> Stdio {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer.into()
    }
}
