//! Image preprocessing for vision models: decoding within limits, resizing to whole patches, normalisation, and splitting into
//! patches, as in transformers' `Qwen2VLImageProcessor` (used by Qwen3-VL).

mod config;
mod error;
mod preprocessor;
mod resize;

pub use config::ImageConfig;
pub use error::ImageError;
pub use preprocessor::{PicturePreprocessor, ProcessedImage};
pub use videosdgx_picture::DecodeLimits;
