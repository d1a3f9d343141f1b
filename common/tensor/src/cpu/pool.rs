//! Threads that stand ready for the next piece of work: handing work over costs about a microsecond.
//!
//! A decoding step is some hundred small operations one after the other. Workers therefore look out for the next one for
//! [`SPIN_TIME`] before they sleep. Pieces are claimed one by one, so a thread that the system holds up delays nobody by more
//! than the piece it has; a worker that comes too late does not take part at all. Workers never touch libtorch.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a worker looks out for work before it sleeps.
const SPIN_TIME: Duration = Duration::from_micros(50);
/// Set in `gate` while workers may join.
const OPEN: u32 = 1 << 31;

type Work = dyn Fn(usize) + Sync;

/// Keeps what threads write often on cache lines of its own (and off the neighbour that is fetched along).
#[repr(align(128))]
struct CacheLine<T>(T);

struct Pool {
    /// Whether a caller has the pool.
    taken: AtomicBool,
    /// Counts the operations: what waiting workers watch.
    epoch: CacheLine<AtomicU32>,
    /// [`OPEN`], and how many workers are inside.
    gate: CacheLine<AtomicU32>,
    /// The next piece to claim.
    next: CacheLine<AtomicUsize>,
    pieces: AtomicUsize,
    /// Most workers that may join.
    most: AtomicU32,
    /// The work, valid while the gate is open or somebody is inside.
    work: UnsafeCell<Option<*const Work>>,
    /// What a worker's piece panicked with.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Workers started so far.
    started: AtomicUsize,
    sleeping: AtomicU32,
    bed: Mutex<()>,
    alarm: Condvar,
}

// SAFETY: `work` is written only by the caller that has taken the pool, while the gate is shut and nobody is inside, and
// read only by workers that went in through the open gate.
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

/// How many threads share an operation: as many as libtorch uses.
pub(crate) fn threads() -> usize {
    usize::try_from(tch::get_num_threads()).unwrap_or(1).max(1)
}

/// Calls `work(0)` to `work(pieces - 1)`, each once, on the calling thread and the pool's, and returns when all are done.
///
/// While another thread has the pool, and inside of `work`, everything runs on the calling thread.
///
/// # Panics
/// With what a piece panicked with, after the others have finished or were given up.
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
        // SAFETY: the pool is ours, the gate is shut and nobody is inside: nobody reads it. The lifetime is erased;
        // nobody uses it after `shared` returns, see `finish`.
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

    /// Shuts the gate and waits for those inside.
    fn finish(&self) {
        let mut inside = self.gate.0.fetch_and(!OPEN, Ordering::Acquire) & !OPEN;
        let mut turns = 0u32;
        while inside > 0 {
            turns += 1;
            if turns < 4000 {
                std::hint::spin_loop();
            } else {
                // The one we wait for may need this very processor.
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
                // The system gives no more threads: those there are must do.
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
            // SAFETY: inside the gate, where the work is written before and stays valid until we leave.
            let work = unsafe { (*self.work.get()).map(|work| &*work) };
            let result = catch_unwind(AssertUnwindSafe(|| work.map(|work| self.claim(work))));
            if let Err(panic) = result {
                self.next.0.store(self.pieces.load(Ordering::Relaxed), Ordering::Relaxed);
                locked(&self.panic).get_or_insert(panic);
            }
            self.gate.0.fetch_sub(1, Ordering::Release);
        }
    }

    /// Waits until the epoch is another than `seen`: watching first, then asleep.
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

    /// Goes in if the gate is open and there is room.
    fn enter(&self) -> bool {
        let most = self.most.load(Ordering::Relaxed);
        let join = |gate: u32| (gate & OPEN != 0 && (gate & !OPEN) < most).then_some(gate + 1);
        self.gate.0.fetch_update(Ordering::Acquire, Ordering::Relaxed, join).is_ok()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A pointer that several threads write through, each to places of its own.
#[derive(Clone, Copy)]
pub(crate) struct SharedMut<T>(*mut T);

// SAFETY: only an address; whoever writes through it answers for the places being disjoint.
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
    /// They lie within the slice it was made from, which is alive and not otherwise used; no other thread has them.
    pub(crate) unsafe fn slice<'a>(&self, first: usize, length: usize) -> &'a mut [T] {
        // SAFETY: the caller's promise.
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
