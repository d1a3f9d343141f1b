//! The first failure of its kind in a process, and a way to wait for it.

use std::{
    future::poll_fn,
    sync::{Mutex, OnceLock, PoisonError},
    task::{Poll, Waker},
};

/// A static that keeps the first failure that is reported to it: later ones follow from the first.
///
/// ```
/// use videosdgx_threads::FirstFailure;
///
/// static FAILED: FirstFailure<&str> = FirstFailure::new();
/// FAILED.report("the disk is gone");
/// FAILED.report("a file cannot be read");
/// assert_eq!(FAILED.get(), Some(&"the disk is gone"));
/// ```
#[derive(Debug)]
pub struct FirstFailure<T> {
    first: OnceLock<T>,
    waiting: Mutex<Vec<Waker>>,
}

impl<T> FirstFailure<T> {
    /// Nothing has failed.
    #[must_use]
    pub const fn new() -> Self {
        Self { first: OnceLock::new(), waiting: Mutex::new(Vec::new()) }
    }

    /// Records a failure, unless there was one before, and wakes everyone who waits.
    pub fn report(&self, failure: T) {
        let _ = self.first.set(failure);
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        for waker in waiting {
            waker.wake();
        }
    }

    /// The first failure, if there was one.
    pub fn get(&self) -> Option<&T> {
        self.first.get()
    }

    /// Completes when something has failed.
    pub async fn wait(&self) -> &T {
        poll_fn(|context| {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            match self.first.get() {
                Some(failure) => Poll::Ready(failure),
                None => {
                    waiting.retain(|waker| !waker.will_wake(context.waker()));
                    waiting.push(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

impl<T> Default for FirstFailure<T> {
    fn default() -> Self {
        Self::new()
    }
}
