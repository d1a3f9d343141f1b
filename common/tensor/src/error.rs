//! What can go wrong with a checkpoint or a tensor.

use std::path::{Path, PathBuf};

/// A checkpoint folder that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A folder or file that must be there is not.
    #[error("{} is missing", path.display())]
    Missing {
        /// What was looked for.
        path: PathBuf,
    },
    /// A file is there and is not what it must be.
    #[error("{}: {reason}", file.display())]
    Invalid {
        /// The file at fault.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl CheckpointError {
    /// An [`CheckpointError::Invalid`] about `file`.
    pub fn invalid(file: impl AsRef<Path>, reason: impl std::fmt::Display) -> Self {
        Self::Invalid { file: file.as_ref().to_owned(), reason: reason.to_string() }
    }

    /// `Missing` when the system says "not found", else `Invalid` with its words.
    pub fn io(file: impl AsRef<Path>, error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::NotFound => Self::Missing { path: file.as_ref().to_owned() },
            _ => Self::invalid(file, error),
        }
    }
}

/// Everything that loading or computing can fail with.
#[derive(Debug, thiserror::Error)]
pub enum TensorError {
    /// The checkpoint is missing or broken.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The allocator of the host or of the GPU refused.
    #[error("out of memory: {0}")]
    OutOfMemory(String),
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Libtorch(String),
    /// The configured device is not there.
    #[error("device {0} is not available; use auto or cpu")]
    Device(String),
}

impl From<tch::TchError> for TensorError {
    fn from(error: tch::TchError) -> Self {
        Self::from_message(&error.to_string())
    }
}

impl TensorError {
    /// Sorts a libtorch message by its words: its allocators name themselves.
    fn from_message(message: &str) -> Self {
        let first = message.lines().next().unwrap_or(message).to_owned();
        let lower = message.to_ascii_lowercase();
        let memory = ["out of memory", "can't allocate memory", "not enough memory", "defaultcpuallocator"];
        if memory.iter().any(|words| lower.contains(words)) {
            Self::OutOfMemory(first)
        } else {
            Self::Libtorch(first)
        }
    }
}

/// Runs `compute` without gradients and turns a failure inside libtorch (tch reports it by a panic, because its
/// operators have no other way) into an error: the one place where a model's arithmetic meets the outside.
///
/// # Errors
/// What `compute` returns, or [`TensorError::OutOfMemory`] or [`TensorError::Libtorch`].
pub fn guarded<T, E: From<TensorError>>(compute: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let _no_grad = tch::no_grad_guard();
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(compute)).unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("unknown panic");
        Err(TensorError::from_message(message).into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn a_failure_inside_libtorch_becomes_an_error() {
        let ones = Tensor::ones([2, 3], (Kind::Float, Device::Cpu));
        let result = guarded(|| Ok::<_, TensorError>(ones.matmul(&ones)));
        assert!(matches!(result, Err(TensorError::Libtorch(_))), "{result:?}");
    }

    #[test]
    fn an_allocation_that_cannot_succeed_is_out_of_memory() {
        let result =
            guarded(|| Ok::<_, TensorError>(Tensor::f_empty([1 << 46], (Kind::Float, Device::Cpu))?.numel()));
        assert!(matches!(result, Err(TensorError::OutOfMemory(_))), "{result:?}");
    }
}
