//! Shutting down without cutting anybody off.

use std::{
    future::Future,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Notify, watch};
use videosdgx_jobs::Lease;

use crate::{Interrupt, InterruptReason};

/// Whether the service is shutting down, which job runs now and how many answers are on their way.
#[derive(Debug)]
pub(crate) struct Drain {
    draining: watch::Sender<bool>,
    worker_over: watch::Sender<bool>,
    running: Mutex<Option<(Lease, Interrupt)>>,
    answers: AtomicUsize,
    answers_done: Notify,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            draining: watch::Sender::new(false),
            worker_over: watch::Sender::new(false),
            running: Mutex::default(),
            answers: AtomicUsize::new(0),
            answers_done: Notify::new(),
        }
    }
}

impl Drain {
    /// From now on nothing new is taken.
    pub(crate) fn begin(&self) {
        self.draining.send_replace(true);
    }

    pub(crate) fn has_begun(&self) -> bool {
        *self.draining.borrow()
    }

    /// Sees the beginning.
    pub(crate) fn watch(&self) -> watch::Receiver<bool> {
        self.draining.subscribe()
    }

    /// The worker has a job that `interrupt` stops.
    pub(crate) fn job_began(&self, lease: Lease, interrupt: Interrupt) {
        *self.lock() = Some((lease, interrupt));
    }

    pub(crate) fn job_ended(&self) {
        *self.lock() = None;
    }

    /// The worker takes no jobs any more and has none.
    pub(crate) fn worker_ended(&self) {
        self.worker_over.send_replace(true);
    }

    /// Asks the running job to stop, to go back to the queue.
    pub(crate) fn interrupt_job(&self) {
        if let Some((_, interrupt)) = &*self.lock() {
            interrupt.set(InterruptReason::Draining);
        }
    }

    /// The job that does not stop.
    pub(crate) fn running_lease(&self) -> Option<Lease> {
        self.lock().as_ref().map(|(lease, _)| lease.clone())
    }

    /// Waits until the worker has ended; whether it did in time.
    pub(crate) async fn worker_over(&self, limit: Duration) -> bool {
        let mut over = self.worker_over.subscribe();
        in_time(limit, async move { over.wait_for(|over| *over).await.is_ok() }).await
    }

    /// Counts an answer until [`Drain::answer_ended`]; a long download is one.
    pub(crate) fn answer_began(&self) {
        self.answers.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn answer_ended(&self) {
        if self.answers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.answers_done.notify_waiters();
        }
    }

    /// Waits until no answer is on its way; whether that came true in time.
    pub(crate) async fn answers_over(&self, limit: Duration) -> bool {
        in_time(limit, async {
            loop {
                let done = self.answers_done.notified();
                tokio::pin!(done);
                done.as_mut().enable();
                if self.answers.load(Ordering::Acquire) == 0 {
                    return true;
                }
                done.await;
            }
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Lease, Interrupt)>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn in_time(limit: Duration, waiting: impl Future<Output = bool>) -> bool {
    tokio::time::timeout(limit, waiting).await.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn the_worker_is_waited_for_and_its_job_can_be_stopped() {
        let drain = Arc::new(Drain::default());
        let interrupt = Interrupt::default();
        let lease = Lease { job: "fake-1".parse().unwrap(), attempt: 1 };
        drain.job_began(lease.clone(), interrupt.clone());
        assert!(!drain.worker_over(Duration::from_millis(1)).await);
        drain.interrupt_job();
        assert_eq!(interrupt.reason(), Some(InterruptReason::Draining));
        assert_eq!(drain.running_lease(), Some(lease));
        let waiting = tokio::spawn({
            let drain = Arc::clone(&drain);
            async move { drain.worker_over(Duration::from_secs(60)).await }
        });
        tokio::task::yield_now().await;
        drain.job_ended();
        drain.worker_ended();
        assert!(waiting.await.unwrap());
        assert!(drain.worker_over(Duration::ZERO).await, "it stays over");
    }

    #[tokio::test]
    async fn answers_are_waited_for() {
        let drain = Arc::new(Drain::default());
        drain.answer_began();
        drain.answer_began();
        assert!(!drain.answers_over(Duration::from_millis(1)).await);
        let waiting = tokio::spawn({
            let drain = Arc::clone(&drain);
            async move { drain.answers_over(Duration::from_secs(60)).await }
        });
        drain.answer_ended();
        drain.answer_ended();
        assert!(waiting.await.unwrap());
    }
}
