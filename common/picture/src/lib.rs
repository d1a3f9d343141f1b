//! RGB pictures: files decoded under strict limits, resampling byte for byte as Pillow or libtorch do it. No libtorch.

mod decode;
mod resample;
mod rgb;

pub use decode::{Background, DecodeError, DecodeLimits, decode, dimensions};
pub use resample::{Arithmetic, Filter};
pub use rgb::{LONGEST_RATIO, Picture};
