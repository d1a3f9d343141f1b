//! How a queue is opened, whichever driver stores it.

use std::{fmt, sync::Arc};

use crate::{Forgotten, Queue, QueueConfig, QueueError};

/// Called for each job that the queue has forgotten, so that its files can be removed. Must return quickly and not block.
pub type ForgottenHook = Arc<dyn Fn(&Forgotten) + Send + Sync>;

/// Settings and policy of a queue that hold for every driver.
///
/// ```
/// use videosdgx_jobs::{QueueConfig, QueueOptions};
///
/// let config = QueueConfig { max_queued: 100, ..QueueConfig::default() };
/// let options = QueueOptions::from(config).with_on_forgotten(|job| println!("{} is forgotten", job.id));
/// assert_eq!(options.config.renew_every() * 3, options.config.lease);
/// ```
#[derive(Clone, Default)]
pub struct QueueOptions {
    /// Leases, limits and retention.
    pub config: QueueConfig,
    /// Called after a job was forgotten durably, by its owner or by age.
    pub on_forgotten: Option<ForgottenHook>,
}

impl QueueOptions {
    /// Sets what is called for each forgotten job.
    #[must_use]
    pub fn with_on_forgotten(mut self, hook: impl Fn(&Forgotten) + Send + Sync + 'static) -> Self {
        self.on_forgotten = Some(Arc::new(hook));
        self
    }
}

impl From<QueueConfig> for QueueOptions {
    fn from(config: QueueConfig) -> Self {
        Self { config, on_forgotten: None }
    }
}

impl fmt::Debug for QueueOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueOptions").field("config", &self.config).finish_non_exhaustive()
    }
}

/// The storage of a queue. The rules for its jobs are the same for every driver and are configured by [`QueueOptions`].
pub trait QueueDriver {
    /// Opens the queue, restoring what is stored.
    ///
    /// # Errors
    /// `Locked` when another process owns the storage, `TooNew`, `StorageFull`, `Storage`.
    fn open(self, options: QueueOptions) -> Result<Arc<dyn Queue>, QueueError>;
}
