//! A thread pool with low latency: handing over work takes about a microsecond.
//!
//! A decoding step is a sequence of some hundred small operations. Workers therefore spin for [`SPIN_TIME`] after an
//! operation before they sleep. Pieces are claimed one by one, so that a thread that the system preempts delays the
//! others by at most its current piece; a worker that wakes up too late does not take part. Workers never call
//! libtorch.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a worker spins before it sleeps.
const SPIN_TIME: Duration = Duration::from_micros(50);
/// Flag in `gate`: workers may join the current operation.
const OPEN: u32 = 1 << 31;

type Work = dyn Fn(usize) + Sync;

/// Aligned so that values written by several threads are on different cache lines (and not on the adjacent line that
/// is prefetched).
#[repr(align(128))]
struct CacheLine<T>(T);

struct Pool {
    /// Whether some caller uses the pool.
    taken: AtomicBool,
    /// Number of operations so far; waiting workers observe it.
    epoch: CacheLine<AtomicU32>,
    /// [`OPEN`], and the number of workers in the current operation.
    gate: CacheLine<AtomicU32>,
    /// The next piece to be claimed.
    next: CacheLine<AtomicUsize>,
    pieces: AtomicUsize,
    /// Largest number of workers that may join.
    most: AtomicU32,
    /// The work; valid while the gate is open or some worker is in the operation.
    work: UnsafeCell<Option<*const Work>>,
    /// The panic of a worker's piece.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Number of workers started so far.
    started: AtomicUsize,
    sleeping: AtomicU32,
    bed: Mutex<()>,
    alarm: Condvar,
}

// SAFETY: `work` is written only by the caller that has acquired the pool, while the gate is closed and no worker is
// in the operation, and read only by workers that joined while the gate was open.
unsafe impl Sync for Pool {}

static POOL: Pool = Pool {
    taken: AtomicBool::new(false),
    epoch: CacheLine(AtomicU32::new(0)),
    gate: CacheLine(AtomicU32::new(0)),
    next: CacheLine(AtomicUsize::new(0)),
    pieces: AtomicUsize::new(0),
    most: AtomicU32::new(0),
    work: UnsafeCell::new(None),
    panic: Mutex::new(None),
    started: AtomicUsize::new(0),
    sleeping: AtomicU32::new(0),
    bed: Mutex::new(()),
    alarm: Condvar::new(),
};

/// Number of threads that share an operation: as many as libtorch uses.
pub(crate) fn threads() -> usize {
    usize::try_from(tch::get_num_threads()).unwrap_or(1).max(1)
}

/// Calls `work(0)` to `work(pieces - 1)`, each once, on the calling thread and the pool's, and returns when all are
/// done.
///
/// While another thread uses the pool, and when called from within `work`, everything runs on the calling thread.
///
/// # Panics
/// With the panic of a piece, after the other pieces have finished or were skipped.
pub(crate) fn run(pieces: usize, work: impl Fn(usize) + Sync) {
    let threads = if pieces > 1 { threads().min(pieces) } else { 1 };
    if threads <= 1 || POOL.taken.swap(true, Ordering::Acquire) {
        return (0..pieces).for_each(work);
    }
    let result = POOL.shared(threads, pieces, &work);
    POOL.taken.store(false, Ordering::Release);
    if let Err(panic) = result {
        resume_unwind(panic);
    }
}

impl Pool {
    fn shared(
        &'static self,
        threads: usize,
        pieces: usize,
        work: &(dyn Fn(usize) + Sync),
    ) -> Result<(), Box<dyn Any + Send>> {
        self.start_workers(threads - 1);
        // SAFETY: this thread has acquired the pool, the gate is closed and no worker is in the operation: nothing
        // reads it. The lifetime is erased; nothing uses the work after `shared` returns, see `finish`.
        unsafe {
            let work = std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const Work>(work);
            *self.work.get() = Some(work);
        }
        self.pieces.store(pieces, Ordering::Relaxed);
        self.most.store(u32::try_from(threads - 1).unwrap_or(u32::MAX >> 1), Ordering::Relaxed);
        self.next.0.store(0, Ordering::Relaxed);
        self.gate.0.store(OPEN, Ordering::Release);
        self.epoch.0.fetch_add(1, Ordering::SeqCst);
        self.wake(threads - 1);
        let own = catch_unwind(AssertUnwindSafe(|| self.claim(work)));
        if own.is_err() {
            self.next.0.store(pieces, Ordering::Relaxed);
        }
        self.finish();
        let theirs = locked(&self.panic).take();
        own.and(theirs.map_or(Ok(()), Err))
    }

    /// Closes the gate and waits for the workers in the operation.
    fn finish(&self) {
        let mut inside = self.gate.0.fetch_and(!OPEN, Ordering::Acquire) & !OPEN;
        let mut turns = 0u32;
        while inside > 0 {
            turns += 1;
            if turns < 4000 {
                std::hint::spin_loop();
            } else {
                // The awaited worker may need this very processor.
                std::thread::yield_now();
            }
            inside = self.gate.0.load(Ordering::Acquire);
        }
    }

    fn claim(&self, work: &(dyn Fn(usize) + Sync)) {
        let pieces = self.pieces.load(Ordering::Relaxed);
        loop {
            let piece = self.next.0.fetch_add(1, Ordering::Relaxed);
            if piece >= pieces {
                return;
            }
            work(piece);
        }
    }

    fn start_workers(&'static self, wanted: usize) {
        while self.started.load(Ordering::Relaxed) < wanted {
            let thread = std::thread::Builder::new().name("tensor-worker".into()).spawn(|| self.worker());
            if thread.is_err() {
                // The system cannot start more threads: use the existing ones.
                return;
            }
            self.started.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn wake(&self, wanted: usize) {
        let sleeping = self.sleeping.load(Ordering::SeqCst) as usize;
        if sleeping > 0 {
            drop(locked(&self.bed));
            (0..wanted.min(sleeping)).for_each(|_| self.alarm.notify_one());
        }
    }

    fn worker(&self) {
        let mut seen = 0;
        loop {
            seen = self.next_epoch(seen);
            if !self.enter() {
                continue;
            }
            // SAFETY: in the operation; the work was written before the gate was opened and stays valid until the
            // worker leaves.
            let work = unsafe { (*self.work.get()).map(|work| &*work) };
            let result = catch_unwind(AssertUnwindSafe(|| work.map(|work| self.claim(work))));
            if let Err(panic) = result {
                self.next.0.store(self.pieces.load(Ordering::Relaxed), Ordering::Relaxed);
                locked(&self.panic).get_or_insert(panic);
            }
            self.gate.0.fetch_sub(1, Ordering::Release);
        }
    }

    /// Waits until the epoch differs from `seen`: spins first, then sleeps.
    fn next_epoch(&self, seen: u32) -> u32 {
        let start = Instant::now();
        loop {
            for _ in 0..32 {
                let epoch = self.epoch.0.load(Ordering::Acquire);
                if epoch != seen {
                    return epoch;
                }
                std::hint::spin_loop();
            }
            if start.elapsed() >= SPIN_TIME {
                break;
            }
        }
        let mut bed = locked(&self.bed);
        self.sleeping.fetch_add(1, Ordering::SeqCst);
        let epoch = loop {
            let epoch = self.epoch.0.load(Ordering::SeqCst);
            if epoch != seen {
                break epoch;
            }
            bed = self.alarm.wait(bed).unwrap_or_else(PoisonError::into_inner);
        };
        self.sleeping.fetch_sub(1, Ordering::SeqCst);
        epoch
    }

    /// Joins the operation if the gate is open and the limit of workers is not reached.
    fn enter(&self) -> bool {
        let most = self.most.load(Ordering::Relaxed);
        let join = |gate: u32| (gate & OPEN != 0 && (gate & !OPEN) < most).then_some(gate + 1);
        self.gate.0.fetch_update(Ordering::Acquire, Ordering::Relaxed, join).is_ok()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A pointer that several threads write through, each to disjoint elements.
#[derive(Clone, Copy)]
pub(crate) struct SharedMut<T>(*mut T);

// SAFETY: only an address; users ensure that accesses are disjoint.
unsafe impl<T: Send> Send for SharedMut<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedMut<T> {}

impl<T> SharedMut<T> {
    pub(crate) fn new(slice: &mut [T]) -> Self {
        Self(slice.as_mut_ptr())
    }

    pub(crate) fn from_ptr(start: *mut T) -> Self {
        Self(start)
    }

    /// Elements `first .. first + length`.
    ///
    /// # Safety
    /// The range is inside the slice that this was made from, which is alive and not otherwise used; no other thread
    /// uses these elements.
    pub(crate) unsafe fn slice<'a>(&self, first: usize, length: usize) -> &'a mut [T] {
        // SAFETY: guaranteed by the caller.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(first), length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    fn counted(pieces: usize) {
        let counts: Vec<AtomicU64> = (0..pieces).map(|_| AtomicU64::new(0)).collect();
        run(pieces, |piece| {
            counts[piece].fetch_add(1, Ordering::Relaxed);
        });
        assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{pieces}");
    }

    #[test]
    fn every_piece_runs_once_also_after_pauses() {
        for round in 0..2000 {
            counted(round % 37);
            if round % 400 == 0 {
                #[expect(clippy::disallowed_methods, reason = "the test waits on its own thread")]
                std::thread::sleep(SPIN_TIME * 4);
            }
        }
    }

    #[test]
    fn several_callers_at_once_and_work_within_work() {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..300 {
                        counted(9);
                        run(3, |_| counted(5));
                    }
                });
            }
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        for bad in [0, 5, 63] {
            let caught = std::panic::catch_unwind(|| {
                run(64, |piece| {
                    #[expect(clippy::disallowed_methods, reason = "stands for work")]
                    std::thread::sleep(Duration::from_micros(20));
                    assert!(piece != bad, "piece {piece}");
                });
            });
            let message = caught.expect_err("panics");
            assert_eq!(message.downcast_ref::<String>(), Some(&format!("piece {bad}")));
            counted(64);
        }
    }
}
