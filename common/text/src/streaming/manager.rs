//! Several engines under their names.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{StreamingComputationEngine, StreamingConfig, StreamingStatistics, create_streaming_engine};
use crate::engine::TextEngine;

/// Holds engines by name. Clones are handles to the same.
#[derive(Debug, Clone, Default)]
pub struct StreamingComputationManager {
    config: StreamingConfig,
    engines: Arc<Mutex<BTreeMap<String, StreamingComputationEngine>>>,
}

/// A manager without engines; those it creates take `config`.
#[must_use]
pub fn setup_streaming_computation(config: StreamingConfig) -> StreamingComputationManager {
    StreamingComputationManager { config, engines: Arc::default() }
}

impl StreamingComputationManager {
    /// Adds `engine` as `name`, instead of one that had the name before.
    pub fn create_streaming_engine(
        &self,
        name: impl Into<String>,
        engine: TextEngine,
    ) -> StreamingComputationEngine {
        let created = create_streaming_engine(engine, self.config);
        self.lock().insert(name.into(), created.clone());
        created
    }

    /// The engine called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<StreamingComputationEngine> {
        self.lock().get(name).cloned()
    }

    /// The engine with the fewest requests, active and waiting; the first by name among equals.
    #[must_use]
    pub fn least_loaded(&self) -> Option<StreamingComputationEngine> {
        let load = |engine: &StreamingComputationEngine| {
            let statistics = engine.statistics();
            statistics.active + statistics.waiting
        };
        self.lock().values().min_by_key(|engine| load(engine)).cloned()
    }

    /// Removes the engine called `name`; its requests go on.
    pub fn remove(&self, name: &str) -> Option<StreamingComputationEngine> {
        self.lock().remove(name)
    }

    /// What each engine is doing, by name.
    #[must_use]
    pub fn statistics(&self) -> BTreeMap<String, StreamingStatistics> {
        self.lock().iter().map(|(name, engine)| (name.clone(), engine.statistics())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, StreamingComputationEngine>> {
        self.engines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
