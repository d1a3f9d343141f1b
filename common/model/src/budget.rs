//! Refuses a load before the allocator fails: on unified memory, running out of memory can make the whole machine unresponsive.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Instant,
};

use crate::{Memory, MemoryProbe, SystemMemory};

/// An owner of memory that can be released: a loader whose model is idle.
pub trait Evictable: Send + Sync {
    /// When its model was last used; `None` when it has none or it is in use.
    fn idle_since(&self) -> Option<Instant>;
    /// Unloads the model if it is still idle and waits until the memory is free; returns whether it did.
    fn evict(&self) -> bool;
}

/// Called with the number of missing bytes after all idle models of this process were unloaded; returns whether to check the free memory
/// again (another process was asked to unload).
pub type ShortageHook = Arc<dyn Fn(u64) -> bool + Send + Sync>;

/// There is not enough memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{needed} bytes are needed and {available} are available")]
pub struct Shortage {
    /// Declared peak in bytes.
    pub needed: u64,
    /// Available bytes, without the reserve and without memory reserved for other models.
    pub available: u64,
}

/// Decides whether a load may begin. Only one load runs at a time, because the memory that it takes is known only when it has
/// ended. Memory that a loaded model declared but has not taken yet (it needs it when it runs) stays reserved for it.
pub struct MemoryBudget {
    probe: Box<dyn MemoryProbe>,
    reserve: u64,
    shortage: Option<ShortageHook>,
    evictables: Mutex<Vec<Weak<dyn Evictable>>>,
    /// Bytes reserved for loaded models beyond what they have taken.
    promised: Arc<Mutex<u64>>,
    loading: Arc<LoadingToken>,
}

impl MemoryBudget {
    /// A budget over the system's memory that keeps `reserve` bytes free.
    #[must_use]
    pub fn of_system(reserve: u64) -> Self {
        Self::new(Box::new(SystemMemory::new()), reserve)
    }

    /// A budget over the memory that `probe` reports.
    #[must_use]
    pub fn new(probe: Box<dyn MemoryProbe>, reserve: u64) -> Self {
        Self {
            probe,
            reserve,
            shortage: None,
            evictables: Mutex::default(),
            promised: Arc::default(),
            loading: Arc::default(),
        }
    }

    /// Sets the hook that is called when memory is short and this process has no idle model left.
    #[must_use]
    pub fn with_shortage_hook(mut self, hook: ShortageHook) -> Self {
        self.shortage = Some(hook);
        self
    }

    /// Registers an owner of memory that can be released.
    pub fn register(&self, evictable: Weak<dyn Evictable>) {
        let mut evictables = lock(&self.evictables);
        evictables.retain(|known| known.strong_count() > 0);
        evictables.push(evictable);
    }

    /// The source of memory readings.
    #[must_use]
    pub fn probe(&self) -> &dyn MemoryProbe {
        &*self.probe
    }

    /// Bytes that a new load could take; `u64::MAX` if the system does not report its memory.
    #[must_use]
    pub fn available(&self) -> u64 {
        let Some(Memory { available, .. }) = self.probe.memory() else { return u64::MAX };
        available.saturating_sub(self.reserve).saturating_sub(*lock(&self.promised))
    }

    /// Waits for other loads, frees memory by unloading idle models (the least recently used first), and permits a load of at
    /// most `needed` bytes. Blocks, so call it on an inference thread.
    ///
    /// # Errors
    /// When the memory is still insufficient.
    pub fn admit(&self, needed: u64) -> Result<LoadPermit, Shortage> {
        let turn = LoadingToken::take(&self.loading);
        loop {
            let available = self.available();
            if needed <= available {
                let before = self.probe.memory().map_or(0, |memory| memory.available);
                return Ok(LoadPermit {
                    needed,
                    available_before: before,
                    promised: Arc::clone(&self.promised),
                    promise: 0,
                    turn: Some(turn),
                });
            }
            let missing = needed - available;
            if !self.evict_oldest() && !self.shortage.as_ref().is_some_and(|ask| ask(missing)) {
                return Err(Shortage { needed, available: self.available() });
            }
        }
    }

    /// The load under `permit` succeeded: memory that it declared and has not taken stays reserved until the permit is dropped.
    pub fn settle(&self, permit: &mut LoadPermit) {
        let after = self.probe.memory().map_or(0, |memory| memory.available);
        let taken = permit.available_before.saturating_sub(after);
        permit.promise = permit.needed.saturating_sub(taken);
        *lock(&self.promised) += permit.promise;
        permit.turn = None;
    }

    fn evict_oldest(&self) -> bool {
        let mut idle: Vec<_> = lock(&self.evictables)
            .iter()
            .filter_map(Weak::upgrade)
            .filter_map(|loader| Some((loader.idle_since()?, loader)))
            .collect();
        idle.sort_by_key(|(since, _)| *since);
        idle.into_iter().any(|(_, loader)| loader.evict())
    }
}

impl fmt::Debug for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBudget")
            .field("reserve", &self.reserve)
            .field("available", &self.available())
            .finish_non_exhaustive()
    }
}

/// The permission to load, and afterwards the reservation of memory that the loaded model may still take. Keep it as long as the
/// model.
#[derive(Debug)]
pub struct LoadPermit {
    needed: u64,
    available_before: u64,
    promised: Arc<Mutex<u64>>,
    promise: u64,
    turn: Option<Turn>,
}

impl Drop for LoadPermit {
    fn drop(&mut self) {
        let mut promised = lock(&self.promised);
        *promised = promised.saturating_sub(self.promise);
    }
}

/// Whether a load is under way.
#[derive(Debug, Default)]
struct LoadingToken {
    taken: Mutex<bool>,
    given_back: std::sync::Condvar,
}

impl LoadingToken {
    fn take(token: &Arc<Self>) -> Turn {
        let mut taken = lock(&token.taken);
        while *taken {
            taken = token.given_back.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        *taken = true;
        Turn(Arc::clone(token))
    }
}

/// The permission to be the one running load; released when dropped.
#[derive(Debug)]
struct Turn(Arc<LoadingToken>);

impl Drop for Turn {
    fn drop(&mut self) {
        *lock(&self.0.taken) = false;
        self.0.given_back.notify_one();
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
