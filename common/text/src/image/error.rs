//! Errors of image preprocessing.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use videosdgx_picture::DecodeError;

/// Why an image, or a checkpoint's image configuration, cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ImageError {
    /// The file is not a valid image or exceeds a limit, which the message names.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The aspect ratio is too extreme.
    #[error("the longer side of the image is at most {most} times the shorter, {width} x {height} is more")]
    TooNarrow {
        /// Width, pixels.
        width: usize,
        /// Height, pixels.
        height: usize,
        /// Maximum ratio of the longer to the shorter side.
        most: usize,
    },
    /// The checkpoint's `preprocessor_config.json` is invalid or requests unsupported processing.
    #[error("{}: {field}: {source}", file.display())]
    Config {
        /// The file.
        file: PathBuf,
        /// The field, or `file` for the whole file.
        field: &'static str,
        /// What is wrong.
        source: Arc<dyn Error + Send + Sync>,
    },
}
