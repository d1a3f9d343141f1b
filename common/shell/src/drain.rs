//! Shutting down without cutting anybody off.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::sync::{Notify, watch};

/// Whether the service is shutting down, and how many answers are on their way.
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
    /// From now on nothing new is taken.
    pub fn begin(&self) {
        self.draining.send_replace(true);
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        *self.draining.borrow()
    }

    /// Sees the beginning.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.draining.subscribe()
    }

    /// Counts an answer until [`Drain::answer_ended`]; a long download is one.
    pub fn answer_began(&self) {
        self.answers.fetch_add(1, Ordering::AcqRel);
    }

    /// The answer has been handed over, or nobody wants it any more.
    pub fn answer_ended(&self) {
        if self.answers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.answers_done.notify_waiters();
        }
    }

    /// Waits until no answer is on its way; whether that came true in time.
    pub async fn answers_over(&self, limit: Duration) -> bool {
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
