//! Settings of a queue.

use std::time::Duration;

/// When ended jobs are forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// Ended jobs older than this are forgotten.
    pub max_age: Duration,
    /// No more ended jobs than this are kept, the newest.
    pub max_ended: usize,
}

/// Settings of a queue; the defaults are the published promises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueConfig {
    /// A claim that is not renewed for this long goes to another worker.
    pub lease: Duration,
    /// Attempts after which a job is given up.
    pub max_attempts: u32,
    /// Waiting this long raises the effective priority by one.
    pub ageing_step: Duration,
    /// Most jobs that wait.
    pub max_queued: usize,
    /// Most jobs of one principal that wait.
    pub max_queued_per_principal: usize,
    /// How many jobs run at once (only for estimates).
    pub workers: u32,
    /// Events kept for each job, for resuming.
    pub max_events_per_job: u64,
    /// When ended jobs are forgotten.
    pub retention: RetentionPolicy,
}

impl QueueConfig {
    /// How often [`crate::LeaseKeeper`] renews a lease: three times within its length.
    #[must_use]
    pub fn renew_every(&self) -> Duration {
        self.lease / 3
    }
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            max_attempts: 3,
            ageing_step: Duration::from_secs(60),
            max_queued: 10_000,
            max_queued_per_principal: 1_000,
            workers: 1,
            max_events_per_job: 1_000,
            retention: RetentionPolicy { max_age: Duration::from_secs(7 * 24 * 3600), max_ended: 10_000 },
        }
    }
}
