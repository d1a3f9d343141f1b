//! Why a model is not there.

use std::{error::Error, sync::Arc, time::Duration};

/// Errors of a loader; one failure answers many callers, hence `Clone`.
#[derive(Debug, thiserror::Error)]
pub enum LoaderError<E: Error + 'static> {
    /// The load failed; the next use tries again.
    #[error("{0}")]
    Load(Arc<E>),
    /// It would not fit, even after idle models were unloaded.
    #[error(
        "the model needs {needed} bytes and {available} are available, free memory or choose a smaller checkpoint"
    )]
    InsufficientMemory {
        /// Declared peak in bytes.
        needed: u64,
        /// Bytes that could be used now, the reserve already taken off.
        available: u64,
    },
    /// The model is still in use; nothing was unloaded.
    #[error("the model is still in use by {in_use} jobs after waiting {} s", waited.as_secs())]
    Busy {
        /// Uses that run or are granted.
        in_use: usize,
        /// How long the unload waited.
        waited: Duration,
    },
    /// The code on the inference thread panicked (a bug); the model is dropped and loaded afresh for the next use.
    #[error("inference panicked: {0}")]
    Panicked(String),
    /// The loader was closed.
    #[error("the model loader is closed")]
    Closed,
}

impl<E: Error + 'static> Clone for LoaderError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Load(error) => Self::Load(Arc::clone(error)),
            Self::InsufficientMemory { needed, available } => {
                Self::InsufficientMemory { needed: *needed, available: *available }
            }
            Self::Busy { in_use, waited } => Self::Busy { in_use: *in_use, waited: *waited },
            Self::Panicked(message) => Self::Panicked(message.clone()),
            Self::Closed => Self::Closed,
        }
    }
}
