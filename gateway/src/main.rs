//! `videosdgx-gateway`: reads its configuration from the environment and serves until SIGTERM or SIGINT.

use std::io::{IsTerminal, Write};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use videosdgx_gateway::{GatewayConfig, Server};

/// Allocating takes a sixth of the instructions of a forwarded request with the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    start_log();
    if let Err(error) = videosdgx_connection::raise_descriptor_limit() {
        tracing::warn!(event = "descriptor_limit", %error);
    }
    let config = GatewayConfig::from_env().context("the configuration cannot be used")?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let server = Server::start(config).await?;
        // Standard output may be closed; the gateway runs without it.
        let mut stdout = std::io::stdout();
        let _ = writeln!(stdout, "listening on http://{}", server.address()).and_then(|()| stdout.flush());
        server
            .run(async move {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            })
            .await;
        Ok(())
    })
}

/// Logs to standard error: `LOG_LEVEL` (default `info`), `LOG_FORMAT` (`text` by default, or `json`).
#[expect(clippy::disallowed_methods, reason = "settings are read here")]
fn start_log() {
    let level = std::env::var("LOG_LEVEL").unwrap_or_else(|_| "info".to_owned());
    let filter = EnvFilter::try_new(&level).unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A line that cannot be written (disk full, pipe or terminal closed) is lost. Reporting that on standard error, as
        // the library does by default, would panic in the task that logs.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    if std::env::var("LOG_FORMAT").is_ok_and(|format| format == "json") {
        log.json().init();
    } else {
        log.init();
    }
}
