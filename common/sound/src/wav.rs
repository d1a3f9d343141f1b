//! WAV files: PCM of 8, 16, 24 and 32 bits, and 32-bit float.

use std::io::Cursor;

use hound::{SampleFormat, WavReader};

use crate::DecodeError;
use crate::decode::{DecodeLimits, MAX_CHANNELS, RATES};

/// Decodes a WAV file → rate, `[channels, samples]`.
pub(crate) fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<(u32, Vec<Vec<f32>>), DecodeError> {
    let mut reader = WavReader::new(Cursor::new(bytes)).map_err(broken)?;
    let spec = reader.spec();
    let (channels, rate) = (usize::from(spec.channels), spec.sample_rate);
    if !(1..=MAX_CHANNELS).contains(&channels) {
        return Err(DecodeError::Channels(channels));
    }
    if !RATES.contains(&rate) {
        return Err(DecodeError::Rate(rate));
    }
    if f64::from(reader.duration()) > limits.seconds * f64::from(rate) {
        return Err(DecodeError::TooLong(limits.seconds));
    }
    let interleaved: Result<Vec<f32>, hound::Error> = match spec.sample_format {
        SampleFormat::Float => reader.samples::<f32>().collect(),
        SampleFormat::Int => {
            // Full scale is 1, whatever the number of bits.
            let scale = (2f64).powi(1 - i32::from(spec.bits_per_sample));
            reader.samples::<i32>().map(|sample| Ok((f64::from(sample?) * scale) as f32)).collect()
        }
    };
    let interleaved = interleaved.map_err(broken)?;
    let channel = |index| interleaved.iter().skip(index).step_by(channels).copied().collect();
    Ok((rate, (0..channels).map(channel).collect()))
}

fn broken(error: hound::Error) -> DecodeError {
    DecodeError::Broken("WAV", error.into())
}
