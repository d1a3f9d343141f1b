//! Cancels steps of a matcher that take too long and would delay all other streams.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use llguidance::CancellationHandle;

/// One thread that watches all matchers of a compiler; it sleeps while no step runs.
pub(super) struct Watchdog {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    watched: Mutex<Watched>,
    changed: Condvar,
}

#[derive(Default)]
struct Watched {
    next: u64,
    steps: Vec<(u64, Instant, CancellationHandle)>,
    asleep: bool,
    closed: bool,
}

/// A running step; it is watched until this is dropped.
pub(super) struct Step<'a> {
    shared: &'a Shared,
    number: u64,
}

impl Watchdog {
    /// # Errors
    /// When the thread cannot be spawned.
    pub(super) fn start() -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let watching = Arc::clone(&shared);
        videosdgx_threads::spawn_vital("constraint-watch", move || watching.run())?;
        Ok(Self { shared })
    }

    /// Cancels `handle` after `limit`, unless the returned step is dropped before.
    pub(super) fn watch(&self, handle: &CancellationHandle, limit: Duration) -> Step<'_> {
        let mut watched = self.shared.lock();
        let number = watched.next;
        watched.next += 1;
        watched.steps.push((number, Instant::now() + limit, handle.clone()));
        if watched.asleep {
            self.shared.changed.notify_one();
        }
        Step { shared: &self.shared, number }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_one();
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        self.shared.lock().steps.retain(|(number, _, _)| *number != self.number);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut watched = self.lock();
        while !watched.closed {
            let now = Instant::now();
            watched.steps.iter().filter(|(_, end, _)| *end <= now).for_each(|(_, _, handle)| handle.cancel());
            watched.steps.retain(|(_, end, _)| *end > now);
            let next = watched.steps.iter().map(|(_, end, _)| *end).min();
            watched.asleep = next.is_none();
            watched = match next {
                None => self.changed.wait(watched).unwrap_or_else(PoisonError::into_inner),
                Some(end) => {
                    let wait = self.changed.wait_timeout(watched, end.saturating_duration_since(now));
                    wait.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}
