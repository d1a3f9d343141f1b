//! Several engines by name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{StreamingComputationEngine, StreamingConfig, StreamingStatistics, create_streaming_engine};
use crate::engine::TextEngine;

/// Registry of engines by name. Clones are handles to the same registry.
#[derive(Debug, Clone, Default)]
pub struct StreamingComputationManager {
    config: StreamingConfig,
    engines: Arc<Mutex<BTreeMap<String, StreamingComputationEngine>>>,
}

/// Creates a manager without engines; `config` applies to the engines that it creates.
#[must_use]
pub fn setup_streaming_computation(config: StreamingConfig) -> StreamingComputationManager {
    StreamingComputationManager { config, engines: Arc::default() }
}

impl StreamingComputationManager {
    /// Adds `engine` under `name`, replacing an earlier one with this name.
    pub fn create_streaming_engine(
        &self,
        name: impl Into<String>,
        engine: TextEngine,
    ) -> StreamingComputationEngine {
        let created = create_streaming_engine(engine, self.config);
        self.lock().insert(name.into(), created.clone());
        created
    }

    /// The engine with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<StreamingComputationEngine> {
        self.lock().get(name).cloned()
    }

    /// The engine with the fewest active and waiting requests; the first by name among equals.
    #[must_use]
    pub fn least_loaded(&self) -> Option<StreamingComputationEngine> {
        let load = |engine: &StreamingComputationEngine| {
            let statistics = engine.statistics();
            statistics.active + statistics.waiting
        };
        self.lock().values().min_by_key(|engine| load(engine)).cloned()
    }

    /// Removes the engine with this name; its requests continue.
    pub fn remove(&self, name: &str) -> Option<StreamingComputationEngine> {
        self.lock().remove(name)
    }

    /// Statistics of each engine, by name.
    #[must_use]
    pub fn statistics(&self) -> BTreeMap<String, StreamingStatistics> {
        self.lock().iter().map(|(name, engine)| (name.clone(), engine.statistics())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, StreamingComputationEngine>> {
        self.engines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
