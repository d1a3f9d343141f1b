//! Pictures for a model that sees: decoded under limits, brought to a size of whole patches, normalised and cut up, as
//! transformers' `Qwen2VLImageProcessor` (the one of Qwen3-VL) does.

mod config;
mod error;
mod preprocessor;
mod resize;

pub use config::ImageConfig;
pub use error::ImageError;
pub use preprocessor::{PicturePreprocessor, ProcessedImage};
pub use videosdgx_picture::DecodeLimits;
