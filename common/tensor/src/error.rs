//! Errors of reading a checkpoint and of computing with tensors.

use std::error::Error;
use std::path::{Path, PathBuf};

/// A checkpoint folder that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A required folder or file does not exist.
    #[error("{} is missing", path.display())]
    Missing {
        /// The folder or file.
        path: PathBuf,
    },
    /// A file exists and its content is not valid or not supported.
    #[error("{}: {reason}", file.display())]
    Invalid {
        /// The invalid file.
        file: PathBuf,
        /// What is wrong with the file.
        reason: String,
        /// The error that `reason` repeats in words, such as that of the JSON parser.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
}

impl CheckpointError {
    /// A [`CheckpointError::Invalid`] about `file`.
    pub fn invalid(file: impl AsRef<Path>, reason: impl std::fmt::Display) -> Self {
        Self::Invalid { file: file.as_ref().to_owned(), reason: reason.to_string(), source: None }
    }

    /// A [`CheckpointError::Invalid`] about `file` because of `error`, which becomes its source.
    pub fn caused_by(file: impl AsRef<Path>, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let error = error.into();
        Self::Invalid { file: file.as_ref().to_owned(), reason: error.to_string(), source: Some(error) }
    }

    /// [`CheckpointError::Missing`] when `error` is "not found", else [`CheckpointError::Invalid`] with `error` as its
    /// source.
    pub fn io(file: impl AsRef<Path>, error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::NotFound => Self::Missing { path: file.as_ref().to_owned() },
            _ => Self::caused_by(file, error),
        }
    }
}

/// Errors of loading a model and of computing with it.
#[derive(Debug, thiserror::Error)]
pub enum TensorError {
    /// The checkpoint is missing or invalid.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The allocator of the host or of the GPU has not enough memory.
    #[error("out of memory: {0}")]
    OutOfMemory(String),
    /// libtorch reported an error.
    #[error("libtorch: {0}")]
    Libtorch(String),
    /// A result contains NaN or infinity.
    #[error("{what} contain NaN or infinity")]
    NotFinite {
        /// Which result, in the plural, and the stage that it is of.
        what: &'static str,
    },
    /// The configured device does not exist.
    #[error("device {0} is not available; use auto or cpu")]
    Device(String),
}

impl From<tch::TchError> for TensorError {
    fn from(error: tch::TchError) -> Self {
        Self::from_message(&error.to_string())
    }
}

impl TensorError {
    /// Classifies a libtorch message by its text: libtorch has no error codes, and its allocators name themselves.
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

/// Fails if `tensor` contains NaN or infinity; `what` names it in the plural.
///
/// # Errors
/// [`TensorError::NotFinite`], or [`TensorError::Libtorch`].
pub fn check_finite(tensor: &tch::Tensor, what: &'static str) -> Result<(), TensorError> {
    let is_finite = bool::try_from(tensor.f_isfinite()?.f_all()?)?;
    if is_finite { Ok(()) } else { Err(TensorError::NotFinite { what }) }
}

/// Runs `compute` without gradients and turns a failure inside libtorch into an error. tch's operators return tensors,
/// not results, and panic when libtorch reports an error; callers of a model's operators therefore go through this
/// function.
///
/// ```
/// use videosdgx_tensor::{Device, Kind, Tensor, TensorError, catch_libtorch_errors};
///
/// let ones = Tensor::ones([2, 3], (Kind::Float, Device::Cpu));
/// let result = catch_libtorch_errors(|| Ok::<_, TensorError>(ones.matmul(&ones)));
/// assert!(matches!(result, Err(TensorError::Libtorch(_))), "the shapes do not match");
/// ```
///
/// # Errors
/// What `compute` returns, or [`TensorError::OutOfMemory`] or [`TensorError::Libtorch`].
pub fn catch_libtorch_errors<T, E: From<TensorError>>(
    compute: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
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
        let result = catch_libtorch_errors(|| Ok::<_, TensorError>(ones.matmul(&ones)));
        assert!(matches!(result, Err(TensorError::Libtorch(_))), "{result:?}");
    }

    #[test]
    fn nan_and_infinity_are_found() {
        assert!(check_finite(&Tensor::from_slice(&[1f32, -2.0]), "numbers").is_ok());
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = check_finite(&Tensor::from_slice(&[1.0, bad]), "numbers").unwrap_err();
            assert_eq!(error.to_string(), "numbers contain NaN or infinity");
        }
    }

    #[test]
    fn an_allocation_that_cannot_succeed_is_out_of_memory() {
        let result = catch_libtorch_errors(|| {
            Ok::<_, TensorError>(Tensor::f_empty([1 << 46], (Kind::Float, Device::Cpu))?.numel())
        });
        assert!(matches!(result, Err(TensorError::OutOfMemory(_))), "{result:?}");
    }
}
