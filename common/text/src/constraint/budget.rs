//! The budget of one compilation: its time limit, and whether its caller still waits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use llguidance::CancellationHandle;

use super::ConstraintError;

/// Time limit of compiling a constraint, including its first step.
pub const COMPILE_LIMIT: Duration = Duration::from_secs(if cfg!(debug_assertions) { 8 } else { 2 });

/// Time limit of one compilation, and its cancellation. Clones share both.
#[derive(Debug, Clone)]
pub struct CompileBudget {
    end: Instant,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    cancelled: AtomicBool,
    /// The step that runs now.
    step: Mutex<Option<CancellationHandle>>,
}

impl Default for CompileBudget {
    fn default() -> Self {
        Self::new(COMPILE_LIMIT)
    }
}

impl CompileBudget {
    /// A budget that begins now.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self { end: Instant::now() + limit, shared: Arc::default() }
    }

    /// Ends the compilation soon, with [`ConstraintError::Cancelled`].
    pub fn cancel(&self) {
        self.shared.cancelled.store(true, Ordering::SeqCst);
        if let Some(step) = &*self.step() {
            step.cancel();
        }
    }

    /// The time that is left.
    pub(super) fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// Cancels `step` too when the compilation is cancelled.
    pub(super) fn begin_step(&self, step: CancellationHandle) {
        *self.step() = Some(step);
        if self.shared.cancelled.load(Ordering::SeqCst)
            && let Some(step) = &*self.step()
        {
            step.cancel();
        }
    }

    /// From now on the step is not cancelled any more: its result outlives the compilation.
    pub(super) fn end_step(&self) {
        *self.step() = None;
    }

    /// # Errors
    /// [`ConstraintError::Cancelled`], or [`ConstraintError::TooSlow`] when no time is left.
    pub(super) fn check(&self) -> Result<(), ConstraintError> {
        if self.shared.cancelled.load(Ordering::SeqCst) {
            return Err(ConstraintError::Cancelled);
        }
        if self.left().is_zero() { Err(ConstraintError::TooSlow) } else { Ok(()) }
    }

    fn step(&self) -> std::sync::MutexGuard<'_, Option<CancellationHandle>> {
        self.shared.step.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
