//! The threads that serve connections.
//!
//! Each thread has a single-threaded runtime and a client of its own, so that a request, its connection to a service and
//! the response stay on one processor: no task is woken on another thread. Proxying small responses is limited by such
//! wake-ups.

use std::cell::Cell;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

thread_local! {
    /// Number of the worker that this thread is.
    static WORKER: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Threads with a runtime each, one for each processor. They end when this is dropped.
pub(crate) struct Workers {
    handles: Vec<Handle>,
    next: AtomicUsize,
    _stop: DropGuard,
}

impl Workers {
    /// How many workers there are.
    pub(crate) fn count() -> usize {
        std::thread::available_parallelism().map_or(1, NonZero::get)
    }

    pub(crate) fn start() -> std::io::Result<Self> {
        let stop = CancellationToken::new();
        let handles = (0..Self::count()).map(|number| {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let handle = runtime.handle().clone();
            let stop = stop.clone();
            std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                WORKER.set(Some(number));
                runtime.block_on(stop.cancelled());
            })?;
            Ok(handle)
        });
        let handles = handles.collect::<std::io::Result<_>>()?;
        Ok(Self { handles, next: AtomicUsize::new(0), _stop: stop.drop_guard() })
    }

    /// The runtime for the next connection: each worker in turn.
    pub(crate) fn next(&self) -> &Handle {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        &self.handles[turn % self.handles.len()]
    }
}

/// One value for each worker, and one for all other threads.
#[derive(Debug)]
pub(crate) struct PerWorker<T> {
    workers: Vec<T>,
    others: T,
}

impl<T> PerWorker<T> {
    /// Makes every value by `make`.
    pub(crate) fn new(make: impl Fn() -> T) -> Self {
        Self { workers: (0..Workers::count()).map(|_| make()).collect(), others: make() }
    }

    /// The value of the worker that calls this.
    pub(crate) fn get(&self) -> &T {
        WORKER.get().and_then(|number| self.workers.get(number)).unwrap_or(&self.others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_go_to_each_worker_in_turn_and_each_has_its_own_value() {
        let workers = Workers::start().unwrap();
        let values = PerWorker::new(|| Box::new(0_u8));
        let address = |values: &PerWorker<Box<u8>>| std::ptr::from_ref::<u8>(&**values.get()) as usize;
        let values = std::sync::Arc::new(values);
        let mut seen = vec![address(&values)];
        for _ in 0..Workers::count() {
            let (values, (sender, receiver)) = (values.clone(), tokio::sync::oneshot::channel());
            workers.next().spawn(async move { sender.send(address(&values)).unwrap() });
            seen.push(receiver.blocking_recv().unwrap());
        }
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), Workers::count() + 1);
    }
}
