//! Threads that a process cannot work without, such as the queue's writer or the inference thread.
//!
//! When one of them panics, the rest of the process would go on answering without being able to do its work. The first such
//! panic is therefore recorded for the whole process: `/ready` reports it, and `main` ends the process so that whoever
//! supervises it starts it again.
//!
//! ```
//! let thread = videosdgx_threads::spawn_vital("counter", || {
//!     let _sum: u32 = (1..=3).sum();
//! })?;
//! thread.join().expect("it did not panic");
//! assert!(videosdgx_threads::failed_thread().is_none());
//! # Ok::<(), std::io::Error>(())
//! ```

mod first_failure;

use std::{
    any::Any,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    thread::{Builder, JoinHandle},
};

pub use first_failure::FirstFailure;

/// The first vital thread of this process that panicked.
static FAILED: FirstFailure<FailedThread> = FirstFailure::new();

/// A vital thread that panicked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedThread {
    /// Name of the thread.
    pub name: String,
    /// Message of the panic; for the log, since it may contain anything.
    pub message: String,
}

impl fmt::Display for FailedThread {
    /// Without the message of the panic.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the thread {} has ended after an internal error", self.name)
    }
}

/// Starts the thread `name`. Its normal return means that its work is done; a panic is recorded for the process.
///
/// # Errors
/// When the system cannot start a thread.
pub fn spawn_vital(
    name: impl Into<String>,
    run: impl FnOnce() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let name = name.into();
    Builder::new().name(name.clone()).spawn(move || {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
            record(FailedThread { name, message: panic_message(panic.as_ref()) });
            resume_unwind(panic);
        }
    })
}

/// The first vital thread that panicked, if one has.
#[must_use]
pub fn failed_thread() -> Option<&'static FailedThread> {
    FAILED.get()
}

/// Completes when a vital thread has panicked.
pub async fn thread_failure() -> &'static FailedThread {
    FAILED.wait().await
}

fn record(failed: FailedThread) {
    tracing::error!(thread = failed.name, panic = failed.message, "vital_thread_panicked");
    FAILED.report(failed);
}

/// The message of a panic.
#[must_use]
pub fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
