//! `main` of every service: the command line, the environment, signals.

use std::{fmt::Display, io::Write as _, process::ExitCode, time::Duration};

use tokio::signal::unix::{SignalKind, signal};

use crate::{ServiceConfig, VERSION, probe, start_logging};

const USAGE: &str = "usage: <service> [health | openapi | --version]
  (nothing)   serve; configuration comes from the environment
  health      exit 0 when the service at VIDEOSDGX_LISTEN answers GET /health
  openapi     print the OpenAPI document";

/// Exit status after one of the threads that the service cannot work without has panicked (`EX_SOFTWARE` of sysexits.h).
const THREAD_FAILED: i32 = 70;
/// Exit status after the GPU has failed in a way that only a new process recovers from (`EX_OSERR` of sysexits.h).
const DEVICE_FAILED: i32 = 71;
/// Time that open responses get after that.
const FAILED_GRACE: Duration = Duration::from_secs(5);

/// A service that runs and can be stopped.
pub trait Stoppable {
    /// Base URL, for example `http://127.0.0.1:43121`.
    fn url(&self) -> String;

    /// Refuses new work, lets running work end within the grace time, and stops. `false` when some work did not end: the
    /// process must then end without waiting for it.
    fn drain(self) -> impl Future<Output = bool>;
}

/// The `main` of a service: reads the environment, builds the engine or backend, starts the service and serves until SIGTERM or
/// SIGINT. `document` is what `openapi` prints.
pub fn main<E, R: Stoppable, X: Display>(
    name: &str,
    document: impl FnOnce(&str) -> utoipa::openapi::OpenApi,
    build: impl FnOnce(&ServiceConfig) -> Result<E, String>,
    start: impl AsyncFnOnce(E, ServiceConfig) -> Result<R, X>,
) -> ExitCode {
    let refuse = |message: String| {
        print_error(&format!("{name}: {message}"));
        ExitCode::FAILURE
    };
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => {}
        ["--version"] => return print(&format!("{name} {VERSION}")),
        ["openapi"] => {
            return match document(name).to_pretty_json() {
                Ok(text) => print(&text),
                Err(error) => refuse(error.to_string()),
            };
        }
        ["health"] => {
            return match ServiceConfig::from_env(name) {
                Ok(config) => probe::health(config.listen),
                Err(error) => refuse(error.to_string()),
            };
        }
        _ => {
            print_error(USAGE);
            return ExitCode::from(2);
        }
    }
    let config = match ServiceConfig::from_env(name) {
        Ok(config) => config,
        Err(error) => return refuse(error.to_string()),
    };
    if let Err(error) = start_logging(&config) {
        return refuse(error.to_string());
    }
    if let Err(error) = videosdgx_connection::raise_descriptor_limit() {
        tracing::warn!(%error, "descriptor_limit");
    }
    match build(&config) {
        Ok(engine) => run(name, async move || start(engine, config).await),
        Err(error) => refuse(error),
    }
}

/// Serves until SIGTERM or SIGINT, then drains. A second signal ends the process at once. When a vital thread has panicked or the
/// device has failed the process ends too, with the status [`THREAD_FAILED`] or [`DEVICE_FAILED`], since whoever supervises it can
/// start it again.
fn run<R: Stoppable, X: Display>(name: &str, start: impl AsyncFnOnce() -> Result<R, X>) -> ExitCode {
    actix_web::rt::System::new().block_on(async move {
        let (mut terminate, mut interrupt) =
            match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
                (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
                (Err(error), _) | (_, Err(error)) => {
                    print_error(&format!("{name}: cannot watch for signals: {error}"));
                    return ExitCode::FAILURE;
                }
            };
        let running = match start().await {
            Ok(running) => running,
            Err(error) => {
                print_error(&format!("{name}: {error}"));
                return ExitCode::FAILURE;
            }
        };
        print(&format!("listening on {}", running.url()));
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            failed = videosdgx_threads::thread_failure() => {
                tracing::error!(thread = failed.name, "the_process_ends");
                let _ = tokio::time::timeout(FAILED_GRACE, running.drain()).await;
                end_now(THREAD_FAILED);
            }
            reason = videosdgx_model::device_failure() => {
                tracing::error!(reason, "the_process_ends");
                let _ = tokio::time::timeout(FAILED_GRACE, running.drain()).await;
                end_now(DEVICE_FAILED);
            }
        }
        tokio::select! {
            over = running.drain() => {
                if !over {
                    end_now(0);
                }
                ExitCode::SUCCESS
            }
            _ = terminate.recv() => end_now(1),
            _ = interrupt.recv() => end_now(1),
            _ = videosdgx_threads::thread_failure() => end_now(THREAD_FAILED),
        }
    })
}

fn print(line: &str) -> ExitCode {
    // Standard output may be closed; the service runs without it.
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Prints a line on standard error, which may be closed or on a full disk: then the line is lost.
pub(crate) fn print_error(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Ends the process while the inference thread may still compute: destructors of libraries must not run under it.
fn end_now(status: i32) -> ! {
    tracing::warn!(status, "ended_without_waiting");
    // SAFETY: `_exit` only ends the process; everything durable was synced when it was written.
    unsafe { libc::_exit(status) }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    struct FakeService;

    impl Stoppable for FakeService {
        fn url(&self) -> String {
            "http://127.0.0.1:0".to_owned()
        }

        async fn drain(self) -> bool {
            true
        }
    }

    /// Which failure the process that a test starts meets.
    const CHILD: &str = "VIDEOSDGX_TEST_FAILING_SERVICE";

    /// A test starts itself as the process of a service that fails; its exit status.
    fn status_of(test: &str) -> Option<i32> {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("main_loop::tests::{test}")])
            .env(CHILD, "1")
            .spawn()
            .unwrap();
        child.wait().unwrap().code()
    }

    #[test]
    fn the_process_ends_when_a_vital_thread_has_panicked() {
        if crate::environment(CHILD).is_some() {
            let _ = run("fake", async || {
                videosdgx_threads::spawn_vital("worker", || panic!("a bug"))?;
                Ok::<_, std::io::Error>(FakeService)
            });
            unreachable!("the process has ended");
        }
        assert_eq!(status_of("the_process_ends_when_a_vital_thread_has_panicked"), Some(THREAD_FAILED));
    }

    #[test]
    fn the_process_ends_with_its_own_status_when_the_device_has_failed() {
        if crate::environment(CHILD).is_some() {
            let _ = run("fake", async || {
                videosdgx_model::report_device_failure("CUDA error: unspecified launch failure");
                Ok::<_, std::io::Error>(FakeService)
            });
            unreachable!("the process has ended");
        }
        let status = status_of("the_process_ends_with_its_own_status_when_the_device_has_failed");
        assert_eq!(status, Some(DEVICE_FAILED));
    }
}
