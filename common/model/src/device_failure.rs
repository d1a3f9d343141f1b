//! A device that has failed for good: the process must end, and a new one be started.
//!
//! After an error such as an illegal memory access, every use of CUDA in the same process fails. Only a new process has a
//! working device again, so `main` ends this one with an exit status of its own, once jobs and streams know of the failure.

use videosdgx_threads::FirstFailure;

/// The reason that was reported first.
static FAILED: FirstFailure<String> = FirstFailure::new();

/// Records that the device of this process has failed for good. Call it once those who use the device have been told.
pub fn report_device_failure(reason: &str) {
    // Before anyone is woken, who may end the process.
    if FAILED.get().is_none() {
        tracing::error!(reason, "device_failed");
    }
    FAILED.report(reason.to_owned());
}

/// Why the device has failed, if it has.
#[must_use]
pub fn failed_device() -> Option<&'static str> {
    FAILED.get().map(String::as_str)
}

/// Completes with the reason when the device has failed.
pub async fn device_failure() -> &'static str {
    FAILED.wait().await
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, executor::block_on};

    use super::*;

    #[test]
    fn whoever_waits_is_told_the_first_reason() {
        assert!(device_failure().now_or_never().is_none());
        let waiting = std::thread::spawn(|| block_on(device_failure()));
        report_device_failure("CUDA error: unspecified launch failure");
        report_device_failure("CUDA error: a later one");
        assert_eq!(waiting.join().expect("it is woken"), "CUDA error: unspecified launch failure");
        assert_eq!(failed_device(), Some("CUDA error: unspecified launch failure"));
    }
}
