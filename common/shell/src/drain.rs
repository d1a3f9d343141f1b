//! Graceful shutdown: open responses end within the grace time.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::sync::{Notify, watch};

/// Whether the service is shutting down, and how many responses are open.
#[derive(Debug)]
pub struct Drain {
    draining: watch::Sender<bool>,
    answers: AtomicUsize,
    answers_done: Notify,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            draining: watch::Sender::new(false),
            answers: AtomicUsize::new(0),
            answers_done: Notify::new(),
        }
    }
}

impl Drain {
    /// Starts the shutdown: from now on new work is refused.
    pub fn begin(&self) {
        self.draining.send_replace(true);
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        *self.draining.borrow()
    }

    /// Becomes `true` when the shutdown begins.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.draining.subscribe()
    }

    /// Counts a response as open until [`Drain::response_ended`]; a download or a stream is one response.
    pub fn response_began(&self) {
        self.answers.fetch_add(1, Ordering::AcqRel);
    }

    /// The response was sent completely, or its client has disconnected.
    pub fn response_ended(&self) {
        if self.answers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.answers_done.notify_waiters();
        }
    }

    /// Waits until no response is open; `false` when that takes longer than `limit`.
    pub async fn wait_for_responses(&self, limit: Duration) -> bool {
        let over = async {
            loop {
                let done = self.answers_done.notified();
                tokio::pin!(done);
                done.as_mut().enable();
                if self.answers.load(Ordering::Acquire) == 0 {
                    return true;
                }
                done.await;
            }
        };
        tokio::time::timeout(limit, over).await.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn answers_are_waited_for() {
        let drain = Arc::new(Drain::default());
        drain.response_began();
        drain.response_began();
        assert!(!drain.wait_for_responses(Duration::from_millis(1)).await);
        let waiting = tokio::spawn({
            let drain = Arc::clone(&drain);
            async move { drain.wait_for_responses(Duration::from_secs(60)).await }
        });
        drain.response_ended();
        drain.response_ended();
        assert!(waiting.await.unwrap());
    }
}
