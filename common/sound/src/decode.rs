//! Sound files of unknown origin, decoded within limits.

use std::io::Cursor;
use std::ops::RangeInclusive;

use videosdgx_mp4::{DecodedSound, Mp4Error, SoundReader};

use crate::{Sound, wav};

/// Most channels of a file.
pub(crate) const MAX_CHANNELS: usize = 2;
/// Rates of files, in samples per second.
pub(crate) const RATES: RangeInclusive<u32> = 8_000..=192_000;

/// What a file may have at most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DecodeLimits {
    /// Bytes of the file.
    pub bytes: usize,
    /// Length of the sound in seconds.
    pub seconds: f64,
}

/// Why a file could not be decoded.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The file is larger than [`DecodeLimits::bytes`].
    #[error("the file has more than {0} bytes")]
    TooManyBytes(usize),
    /// The sound is longer than [`DecodeLimits::seconds`].
    #[error("the sound is longer than {0:.3} seconds")]
    TooLong(f64),
    /// More than two channels.
    #[error("the sound has {0} channels; send one or two")]
    Channels(usize),
    /// A rate that no recording has.
    #[error("the sound has {0} samples per second; send 8000 to 192000")]
    Rate(u32),
    /// Neither WAV nor MP4.
    #[error("the sound must be a WAV file or an MP4 file with sound")]
    UnknownFormat,
    /// The MP4 file has pictures only.
    #[error("the MP4 file has no sound track")]
    NoSound,
    /// The file, of this format, is damaged or has an encoding that is not supported.
    #[error("the {0} file cannot be decoded: {1}")]
    Broken(&'static str, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// The sound has no samples.
    #[error("the sound is empty")]
    Empty,
    /// A sample is NaN or infinite.
    #[error("the sound contains NaN or infinity")]
    NotFinite,
}

/// Decodes a file: WAV (PCM of 8, 16, 24 or 32 bits, 32-bit float), or the sound (AAC-LC, Opus or FLAC) of an unfragmented MP4 file,
/// from time 0 of its pictures. One or two channels, at the file's rate.
///
/// # Errors
/// [`DecodeError`]; nothing is computed beyond the limits.
pub fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<Sound, DecodeError> {
    if bytes.len() > limits.bytes {
        return Err(DecodeError::TooManyBytes(limits.bytes));
    }
    let (rate, samples) = match bytes {
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E', ..] => wav::decode(bytes, limits)?,
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => mp4(bytes, limits)?,
        _ => return Err(DecodeError::UnknownFormat),
    };
    if samples.len() > MAX_CHANNELS {
        return Err(DecodeError::Channels(samples.len()));
    }
    if !RATES.contains(&rate) {
        return Err(DecodeError::Rate(rate));
    }
    let sound = Sound::new(rate, samples).filter(|sound| sound.length() > 0).ok_or(DecodeError::Empty)?;
    if sound.is_finite() { Ok(sound) } else { Err(DecodeError::NotFinite) }
}

fn mp4(bytes: &[u8], limits: &DecodeLimits) -> Result<(u32, Vec<Vec<f32>>), DecodeError> {
    let decoded = SoundReader::new(Cursor::new(bytes)).and_then(|reader| reader.decode(limits.seconds));
    match decoded {
        Ok(DecodedSound { rate, samples }) => Ok((rate, samples)),
        Err(Mp4Error::SoundTooLong(seconds)) => Err(DecodeError::TooLong(seconds)),
        Err(Mp4Error::NoSound) => Err(DecodeError::NoSound),
        Err(error) => Err(DecodeError::Broken("MP4", error.into())),
    }
}
