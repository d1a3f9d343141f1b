//! Errors of a decoder.

use std::error::Error;
use std::sync::Arc;

/// Why a decoder could not resize its cache or compute a step.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DecoderError {
    /// The allocator of the host or of the device refused.
    #[error("out of memory: {0}")]
    OutOfMemory(String),
    /// The device failed in a way that every later step in this process repeats; the process must end.
    #[error("the device failed: {0}")]
    DeviceFailed(String),
    /// The input breaks the contract of [`Segment`](crate::Segment), or the model returned something invalid.
    #[error("{0}")]
    Failed(String),
    /// The tensor library or the device failed.
    #[error(transparent)]
    Backend(Arc<dyn Error + Send + Sync>),
}

impl DecoderError {
    /// A [`DecoderError::Backend`] that keeps `error` as its source.
    #[must_use]
    pub fn backend(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Backend(Arc::new(error))
    }
}
