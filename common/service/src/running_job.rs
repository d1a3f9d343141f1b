//! The job that is running now, so that a shutdown can wait for it or stop it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;
use videosdgx_jobs::Lease;

use crate::{Interrupt, InterruptReason};

/// Which job runs now, and whether the worker will take another.
#[derive(Debug)]
pub(crate) struct RunningJob {
    worker_over: watch::Sender<bool>,
    running: Mutex<Option<(Lease, Interrupt)>>,
}

impl Default for RunningJob {
    fn default() -> Self {
        Self { worker_over: watch::Sender::new(false), running: Mutex::default() }
    }
}

impl RunningJob {
    /// The worker has started a job, which `interrupt` stops.
    pub(crate) fn began(&self, lease: Lease, interrupt: Interrupt) {
        *self.lock() = Some((lease, interrupt));
    }

    pub(crate) fn ended(&self) {
        *self.lock() = None;
    }

    /// The worker has ended.
    pub(crate) fn worker_ended(&self) {
        self.worker_over.send_replace(true);
    }

    /// Requests that the running job stops and returns to the queue.
    pub(crate) fn interrupt(&self) {
        if let Some((_, interrupt)) = &*self.lock() {
            interrupt.set(InterruptReason::Draining);
        }
    }

    /// The lease of the running job.
    pub(crate) fn lease(&self) -> Option<Lease> {
        self.lock().as_ref().map(|(lease, _)| lease.clone())
    }

    /// Waits until the worker has ended; `false` if that takes longer than `limit`.
    pub(crate) async fn worker_over(&self, limit: Duration) -> bool {
        let mut over = self.worker_over.subscribe();
        let waiting = async move { over.wait_for(|over| *over).await.is_ok() };
        tokio::time::timeout(limit, waiting).await.unwrap_or(false)
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Lease, Interrupt)>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn the_worker_is_waited_for_and_its_job_can_be_stopped() {
        let job = Arc::new(RunningJob::default());
        let interrupt = Interrupt::default();
        let lease = Lease { job: "fake-1".parse().unwrap(), attempt: 1 };
        job.began(lease.clone(), interrupt.clone());
        assert!(!job.worker_over(Duration::from_millis(1)).await);
        job.interrupt();
        assert_eq!(interrupt.reason(), Some(InterruptReason::Draining));
        assert_eq!(job.lease(), Some(lease));
        let waiting = tokio::spawn({
            let job = Arc::clone(&job);
            async move { job.worker_over(Duration::from_secs(60)).await }
        });
        tokio::task::yield_now().await;
        job.ended();
        job.worker_ended();
        assert!(waiting.await.unwrap());
        assert!(job.worker_over(Duration::ZERO).await, "it stays over");
    }
}
