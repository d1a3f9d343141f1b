//! The observable state of a loader.

use std::{error::Error, time::Duration};

use videosdgx_api::{LoaderReport, LoaderState};

use crate::LoaderError;

/// The state of a loader, with ages instead of instants.
#[derive(Debug, Clone)]
pub enum State<E: Error + 'static> {
    /// The model is not in memory.
    Unloaded,
    /// The model is being loaded.
    Loading {
        /// Time since the load began.
        elapsed: Duration,
    },
    /// The model is in memory.
    Loaded {
        /// Time since the load ended.
        loaded_for: Duration,
        /// Time since the last use ended (or the load); zero while in use.
        idle_for: Duration,
        /// Uses that run or are granted.
        in_use: usize,
    },
    /// The model is being unloaded.
    Unloading {
        /// Time since it began.
        elapsed: Duration,
    },
    /// The last load failed; the next use tries again.
    Failed {
        /// The cause.
        error: LoaderError<E>,
        /// Time since the failure.
        failed_for: Duration,
    },
}

/// A loader at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot<E: Error + 'static> {
    /// Its state.
    pub state: State<E>,
    /// Successful loads since the loader was made.
    pub loads: u64,
    /// How long the newest successful load took.
    pub last_load: Option<Duration>,
    /// Callers waiting for a load or an unload.
    pub waiting: usize,
    /// Idle time after which it is unloaded; `None` = never.
    pub auto_unload: Option<Duration>,
    /// Time until then, while it is idle.
    pub unloads_in: Option<Duration>,
}

impl<E: Error + 'static> Snapshot<E> {
    /// Whether the model is in memory.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        matches!(self.state, State::Loaded { .. })
    }

    /// Converts to the form of the API; `code` maps a failure to its stable code.
    pub fn report(&self, code: impl FnOnce(&LoaderError<E>) -> String) -> LoaderReport {
        let (state, in_use, idle, error) = match &self.state {
            State::Unloaded => (LoaderState::Unloaded, 0, None, None),
            State::Loading { .. } => (LoaderState::Loading, 0, None, None),
            State::Loaded { in_use, idle_for, .. } => (LoaderState::Loaded, *in_use, Some(*idle_for), None),
            State::Unloading { .. } => (LoaderState::Unloading, 0, None, None),
            State::Failed { error, .. } => (LoaderState::Failed, 0, None, Some(error)),
        };
        LoaderReport {
            state,
            error: error.map(ToString::to_string),
            error_code: error.map(code),
            load_seconds: self.last_load.map(|took| took.as_secs_f64()),
            idle_seconds: idle.map(|idle| idle.as_secs_f64()),
            in_use: u32::try_from(in_use).unwrap_or(u32::MAX),
            auto_unload_minutes: self.auto_unload.map_or(0.0, |idle| idle.as_secs_f64() / 60.0),
            unloads_in_seconds: self.unloads_in.map(|left| left.as_secs_f64()),
            loads: self.loads,
        }
    }
}

/// The result of an unload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freed {
    /// Whether there was a model to unload.
    pub was_loaded: bool,
    /// Freed bytes: resident memory of the process and memory of GPUs; where a GPU shares the host's memory, the
    /// increase of the machine's available memory. At least 0.
    pub freed_bytes: u64,
    /// Resident bytes of the process afterwards.
    pub resident_bytes: u64,
}

impl Freed {
    /// There was nothing to unload.
    #[must_use]
    pub fn nothing() -> Self {
        Self { was_loaded: false, freed_bytes: 0, resident_bytes: crate::process_resident_bytes() }
    }
}
