//! Sound: samples in memory, and sound files (WAV, or the sound of an MP4 file) decoded within strict limits. Does not link
//! libtorch.
//!
//! ```
//! use videosdgx_sound::Sound;
//!
//! let silence = Sound::new(24_000, vec![vec![0.0; 12_000]; 2]).ok_or("not a sound")?;
//! assert_eq!((silence.channels(), silence.seconds()), (2, 0.5));
//! # Ok::<(), &str>(())
//! ```

mod decode;
mod samples;
mod wav;

pub use decode::{DecodeError, DecodeLimits, decode};
pub use samples::Sound;
