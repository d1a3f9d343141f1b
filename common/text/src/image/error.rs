//! Why a picture, or the description of how to take pictures, cannot be used.

use std::path::PathBuf;

use videosdgx_picture::DecodeError;

/// Everything that can go wrong between a file and its patches.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The file is no picture, or too large a one; the message names the limit.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// One side is more than [`super::resize::MOST_RATIO`] times the other.
    #[error("the longer side of the image is at most {most} times the shorter, {width} x {height} is more")]
    TooNarrow {
        /// Pixels a row.
        width: usize,
        /// Rows.
        height: usize,
        /// The limit.
        most: usize,
    },
    /// `preprocessor_config.json` of the checkpoint does not describe what we do.
    #[error("{}: {field}: {reason}", file.display())]
    Config {
        /// The file.
        file: PathBuf,
        /// Where in it.
        field: &'static str,
        /// What is wrong.
        reason: String,
    },
}
