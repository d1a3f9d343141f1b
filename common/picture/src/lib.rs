//! RGB pictures: decoding of files within strict limits, encoding, and resampling that is byte-identical to Pillow or libtorch. Does
//! not link libtorch.

mod decode;
mod encode;
mod jpeg;
mod resample;
mod rgb;
mod turns;

pub use decode::{Background, DamagedImage, DecodeError, DecodeLimits, decode, dimensions};
pub use encode::{EncodeError, PictureFormat};
pub use resample::{Arithmetic, Filter};
pub use rgb::{LONGEST_RATIO, Picture};
