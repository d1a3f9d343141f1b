//! Settings of a queue.

use std::time::Duration;

/// When jobs that have ended are forgotten, that is, deleted from the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// Ended jobs older than this are forgotten.
    pub max_age: Duration,
    /// Maximum number of ended jobs that are kept; the oldest are forgotten first.
    pub max_ended: usize,
}

/// Settings of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueConfig {
    /// A job whose lease is not renewed for this long is given to another worker.
    pub lease: Duration,
    /// Maximum number of attempts of a job.
    pub max_attempts: u32,
    /// How long a job waits after its first, second and third failed attempt before it is tried again; after later ones as
    /// long as after the third. Attempts lost to a dead worker are tried again at once.
    pub retry_delays: [Duration; 3],
    /// Waiting this long raises the effective priority by one.
    pub ageing_step: Duration,
    /// Maximum number of waiting jobs.
    pub max_queued: usize,
    /// Maximum number of waiting jobs of one principal. In addition a principal has at most as many waiting jobs as there are
    /// free places left, so that `n` principals get `max_queued / (n + 1)` places each and none can fill the queue; a first
    /// job is accepted as long as there is a free place.
    pub max_queued_per_principal: usize,
    /// Number of jobs that run at the same time; used for estimates only.
    pub workers: u32,
    /// Number of events kept for each job, so that event streams can be resumed.
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

    /// How long a job waits after its `failed`-th failed attempt.
    #[must_use]
    pub fn retry_delay(&self, failed: u32) -> Duration {
        let [first, second, later] = self.retry_delays;
        match failed {
            0 | 1 => first,
            2 => second,
            _ => later,
        }
    }
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            max_attempts: 3,
            retry_delays: [1, 5, 25].map(Duration::from_secs),
            ageing_step: Duration::from_secs(60),
            max_queued: 10_000,
            max_queued_per_principal: 1_000,
            workers: 1,
            max_events_per_job: 1_000,
            retention: RetentionPolicy { max_age: Duration::from_secs(7 * 24 * 3600), max_ended: 10_000 },
        }
    }
}
