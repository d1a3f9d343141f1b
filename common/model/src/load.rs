//! The model source and settings of a loader.

use std::{fmt, sync::Arc, time::Duration};

use crate::MemoryBudget;

/// How to load one model. All methods run on the inference thread.
pub trait Load: Send + Sync + 'static {
    /// The model. Only the inference thread ever sees it.
    type Model: Send + 'static;
    /// Why it could not be loaded.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Upper bound of the bytes that loading and running need, for the memory budget.
    ///
    /// # Errors
    /// When the checkpoint cannot be read; reported like a failed load.
    fn declared_peak(&self) -> Result<u64, Self::Error>;

    /// Loads the model.
    ///
    /// # Errors
    /// Reported to all waiting callers; the next use tries again.
    fn load(&self) -> Result<Self::Model, Self::Error>;

    /// Called after the model was dropped, or after a load that failed: returns what the model's library keeps, such as a GPU's
    /// memory. [`LoaderConfig::release`] is called next.
    fn model_dropped(&self) {}
}

/// Called on the inference thread after the model was dropped, to return pages to the system (`malloc_trim`, device caches).
pub type ReleaseHook = Arc<dyn Fn() + Send + Sync>;

/// Settings of a loader.
#[derive(Clone)]
pub struct LoaderConfig {
    /// The model's name, for logs and the thread's name.
    pub name: String,
    /// Idle time after which the model is unloaded; `None` = never.
    pub auto_unload: Option<Duration>,
    /// The memory budget; share one between the loaders of a process.
    pub budget: Arc<MemoryBudget>,
    /// See [`ReleaseHook`].
    pub release: Option<ReleaseHook>,
}

impl LoaderConfig {
    /// A loader that never unloads by itself, with a budget of its own over the system's memory.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            auto_unload: None,
            budget: Arc::new(MemoryBudget::of_system(0)),
            release: None,
        }
    }

    /// Sets the idle time in minutes; 0 = never. Negative values and NaN count as 0.
    #[must_use]
    pub fn with_auto_unload_minutes(mut self, minutes: f64) -> Self {
        self.auto_unload =
            Duration::try_from_secs_f64(minutes * 60.0).ok().filter(|idle| *idle > Duration::ZERO);
        self
    }

    /// Sets the budget.
    #[must_use]
    pub fn with_budget(mut self, budget: Arc<MemoryBudget>) -> Self {
        self.budget = budget;
        self
    }

    /// Sets the hook that returns pages to the system.
    #[must_use]
    pub fn with_release(mut self, release: ReleaseHook) -> Self {
        self.release = Some(release);
        self
    }
}

impl fmt::Debug for LoaderConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoaderConfig")
            .field("name", &self.name)
            .field("auto_unload", &self.auto_unload)
            .finish_non_exhaustive()
    }
}
