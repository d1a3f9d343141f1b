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
    /// An adapter (LoRA) cannot be applied to a layer.
    #[error("layer {layer}: {reason}")]
    Adapter {
        /// Name of the layer.
        layer: String,
        /// What does not fit.
        reason: String,
    },
    /// The device failed in a way that every later use of it in this process repeats: the process must end.
    #[error("the device failed: {0}")]
    DeviceFailed(String),
    /// The configured device does not exist.
    #[error("device {device} is not available: {reason}; use auto or cpu")]
    Device {
        /// As configured, for example `cuda:0`.
        device: String,
        /// Why it cannot be used.
        reason: String,
    },
}

impl From<tch::TchError> for TensorError {
    fn from(error: tch::TchError) -> Self {
        Self::from_message(&error.to_string())
    }
}

impl TensorError {
    /// Classifies a libtorch message by its text: libtorch has no error codes, and its allocators name themselves.
    fn from_message(message: &str) -> Self {
        let first = first_line(message);
        let lower = message.to_ascii_lowercase();
        let contains = |words: &[&str]| words.iter().any(|words| lower.contains(words));
        if contains(&MEMORY_SHORT) {
            Self::OutOfMemory(first)
        } else if contains(&DEVICE_ERRORS) && !contains(&CALL_REFUSED) {
            Self::DeviceFailed(first)
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

/// Words of messages about an allocation that failed. cuBLAS reports that it is not initialised when there is no memory for
/// its workspace.
const MEMORY_SHORT: [&str; 8] = [
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "defaultcpuallocator",
    "cublas_status_alloc_failed",
    "cublas_status_not_initialized",
    "cudnn_status_alloc_failed",
    "device_allocation_failed",
];

/// Words that begin the message of an error on the device. Such an error may have happened in an earlier, asynchronous
/// operation, and the CUDA context is lost with it.
const DEVICE_ERRORS: [&str; 3] = ["cuda error: ", "cuda driver error: ", "cudnn_status_execution_failed"];

/// Errors with which CUDA refuses one call, before anything runs; the context stays usable.
const CALL_REFUSED: [&str; 12] = [
    "cuda error: invalid argument",
    "cuda error: invalid configuration argument",
    "cuda error: invalid device ordinal",
    "cuda error: invalid device function",
    "cuda error: no kernel image is available",
    "cuda error: too many resources requested",
    "cuda error: operation not supported",
    "cuda error: no cuda-capable device",
    "cuda error: cuda driver version is insufficient",
    "cublas_status_not_supported",
    "cublas_status_invalid_value",
    "cublas_status_arch_mismatch",
];

/// The first line of a message of libtorch, without what tch's panic puts around it: `called Result::unwrap() on an Err
/// value: Torch("first\nsecond")`, whose line breaks are escaped.
fn first_line(message: &str) -> String {
    let inner = message.split_once("Torch(\"").filter(|(before, _)| before.starts_with("called `Result"));
    let inner = inner.map_or(message, |(_, inner)| inner);
    let inner = inner.strip_prefix("Internal torch error: ").unwrap_or(inner);
    let line = inner.split("\\n").next().unwrap_or(inner).lines().next().unwrap_or_default();
    line.trim_end_matches("\")").to_owned()
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
/// What `compute` returns, or [`TensorError::OutOfMemory`], [`TensorError::DeviceFailed`] or [`TensorError::Libtorch`].
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

    /// The messages as libtorch 2.13 writes them.
    #[test]
    fn an_error_of_the_device_is_told_from_other_failures() {
        let kind = |message: &str| match TensorError::from_message(message) {
            TensorError::OutOfMemory(_) => "memory",
            TensorError::DeviceFailed(_) => "device",
            TensorError::Libtorch(_) => "libtorch",
            other => panic!("{other:?}"),
        };
        for (message, expected) in [
            (
                "CUDA error: an illegal memory access was encountered\nSearch for `cudaErrorIllegalAddress'",
                "device",
            ),
            (
                "CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported",
                "device",
            ),
            ("CUDA error: unspecified launch failure", "device"),
            ("CUDA error: uncorrectable ECC error encountered", "device"),
            (
                "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx( handle, opa, opb)`",
                "device",
            ),
            ("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", "device"),
            (
                "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.11 GiB",
                "memory",
            ),
            ("CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation'", "memory"),
            ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", "memory"),
            ("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`", "memory"),
            ("CUDA error: no kernel image is available for execution on the device", "libtorch"),
            ("CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasLtMatmul`", "libtorch"),
            ("mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)", "libtorch"),
        ] {
            assert_eq!(kind(message), expected, "{message}");
            let panic = format!(
                "called `Result::unwrap()` on an `Err` value: {:?}",
                tch::TchError::Torch(message.into())
            );
            assert_eq!(kind(&panic), expected, "{panic}");
            let text = TensorError::from_message(&panic).to_string();
            assert!(text.ends_with(message.lines().next().expect("a line")), "{text}");
        }
    }
}
