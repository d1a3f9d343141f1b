//! Claims: the right of a worker to run a job.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use jiff::Timestamp;
use videosdgx_api::{JobId, Priority};

use crate::Principal;

/// The right to write to a job until its lease ends: the job and the fencing token.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The job.
    pub job: JobId,
    /// Grows with every claim of the job; a write with an older one is refused.
    pub attempt: u32,
}

/// A job that a worker has claimed.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Passed with every write of the worker.
    pub lease: Lease,
    /// The owner.
    pub principal: Principal,
    /// Its priority.
    pub priority: Priority,
    /// The request as it was submitted, JSON.
    pub body: String,
    /// Data too large for the record (an image).
    pub attachment: Option<Vec<u8>>,
    /// When the lease ends unless renewed (see [`crate::LeaseKeeper`]).
    pub lease_until: Timestamp,
    /// Attempts used up before this one (releases do not count); the last allowed one is `max_attempts - 1`.
    pub attempts_used: u32,
    /// Signals that the worker must stop; check it at each denoising step.
    pub cancel: CancelSignal,
}

/// What a worker must do next: the result of each of its writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Signal {
    /// Continue.
    #[default]
    Continue,
    /// The owner cancelled the job: stop and call [`crate::Queue::cancelled`].
    Cancel,
    /// The lease is lost: stop and write nothing, another worker has the job.
    Lost,
}

/// A flag shared with the queue, so that a worker sees a cancellation without a request.
#[derive(Debug, Clone, Default)]
pub struct CancelSignal(Arc<AtomicU8>);

impl CancelSignal {
    /// What the worker should do now.
    #[must_use]
    pub fn get(&self) -> Signal {
        match self.0.load(Ordering::Acquire) {
            0 => Signal::Continue,
            1 => Signal::Cancel,
            _ => Signal::Lost,
        }
    }

    /// Whether the worker should stop, for either reason.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.get() != Signal::Continue
    }

    /// Raises the flag. `Lost` replaces `Cancel`; a raised flag is never lowered.
    pub fn raise(&self, signal: Signal) {
        let level = match signal {
            Signal::Continue => 0,
            Signal::Cancel => 1,
            Signal::Lost => 2,
        };
        self.0.fetch_max(level, Ordering::AcqRel);
    }
}
