//! The sound that a request gives: decoded under strict limits, so that no upload can fill the memory.

use videosdgx_api::Problem;
use videosdgx_sound::{DecodeError, DecodeLimits, Sound, decode as decode_file};

use crate::attachment::Attachment;

/// Maximum size of the file in bytes.
pub const MAX_BYTES: usize = 10 << 20;
/// How much longer than the video the sound may be, in seconds: the last packet of an encoder. It is cut off.
pub const TOLERANCE: f64 = 0.1;

const SOUND: Attachment = Attachment {
    field: "audio_input",
    what: "sound",
    media_types: &["audio/", "video/mp4"],
    example: "data:audio/wav;base64,…",
    max_bytes: MAX_BYTES,
};

/// Plain base64 of a file sent as base64 or as a data URI, for a video of `seconds`.
///
/// # Errors
/// A problem of the field `audio_input` when it is not base64, exceeds [`MAX_BYTES`], is neither a WAV file nor an MP4 file with
/// sound that can be decoded, or is longer than the video.
pub fn checked(sound: &str, seconds: f64) -> Result<String, Problem> {
    let (encoded, bytes) = read(sound)?;
    decode_bytes(&bytes, seconds)?;
    Ok(encoded.into_owned())
}

/// The sound, cut to `seconds` (blocks for the time of decoding).
///
/// # Errors
/// As [`checked`].
pub fn decode(sound: &str, seconds: f64) -> Result<Sound, Problem> {
    let (_, bytes) = read(sound)?;
    decode_bytes(&bytes, seconds).map(|sound| sound.cut_to(seconds))
}

fn read(sound: &str) -> Result<(std::borrow::Cow<'_, str>, Vec<u8>), Problem> {
    SOUND.read(sound, || problem(&DecodeError::TooManyBytes(MAX_BYTES), 0.0))
}

fn decode_bytes(bytes: &[u8], seconds: f64) -> Result<Sound, Problem> {
    let limits = DecodeLimits { bytes: MAX_BYTES, seconds: seconds + TOLERANCE };
    decode_file(bytes, &limits).map_err(|error| problem(&error, seconds))
}

fn problem(error: &DecodeError, seconds: f64) -> Problem {
    match error {
        DecodeError::TooManyBytes(limit) => Problem::field(SOUND.field, error.to_string()).with_limit(*limit),
        DecodeError::TooLong(_) => {
            let detail = format!("the sound is longer than the video of {seconds:.3} seconds; shorten it");
            Problem::field(SOUND.field, detail).with_limit(seconds)
        }
        _ => Problem::field(SOUND.field, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    use super::*;

    /// A WAV file of 16 bits: `samples` samples at 8 kHz.
    fn wav(samples: usize) -> Vec<u8> {
        let data = (samples * 2) as u32;
        let mut file = b"RIFF".to_vec();
        file.extend_from_slice(&(36 + data).to_le_bytes());
        file.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
        file.extend_from_slice(&8_000_u32.to_le_bytes());
        file.extend_from_slice(&16_000_u32.to_le_bytes());
        file.extend_from_slice(b"\x02\0\x10\0data");
        file.extend_from_slice(&data.to_le_bytes());
        file.extend((0..samples).flat_map(|index| ((index % 100) as i16 * 100).to_le_bytes()));
        file
    }

    #[test]
    fn sound_up_to_the_videos_length_is_accepted_and_cut() {
        let plain = STANDARD.encode(wav(8_500));
        for sent in [
            plain.clone(),
            format!("data:audio/wav;base64,{plain}"),
            format!("data:audio/x-wav;base64,{plain}\n"),
        ] {
            assert_eq!(checked(&sent, 1.0).unwrap(), plain);
            let sound = decode(&sent, 1.0).unwrap();
            assert_eq!((sound.rate(), sound.channels(), sound.length()), (8_000, 1, 8_000));
            assert!((sound.samples()[0][99] - 9_900.0 / 32_768.0).abs() < 1e-6);
        }
        let problem = checked(&plain, 0.9).unwrap_err();
        assert_eq!((problem.field.as_deref(), problem.limit), (Some("audio_input"), Some(0.9.into())));
        assert!(problem.detail.contains("longer than the video of 0.900 seconds"), "{}", problem.detail);
    }

    #[test]
    fn what_is_no_sound_is_refused_by_name() {
        let truncated = STANDARD.encode(&wav(100)[..30]);
        for (sent, word) in [
            ("%%%", "base64"),
            ("data:image/png;base64,aGk=", "data:audio/wav"),
            ("aGVsbG8=", "must be a WAV file"),
            (&*truncated, "WAV file cannot be decoded"),
            (&*STANDARD.encode(wav(0)), "empty"),
        ] {
            let problem = checked(sent, 1.0).unwrap_err();
            assert_eq!((problem.status, problem.field.as_deref()), (400, Some("audio_input")), "{sent}");
            assert!(problem.detail.contains(word), "{sent}: {}", problem.detail);
        }
        let problem = checked(&"A".repeat(MAX_BYTES * 2), 1.0).unwrap_err();
        assert_eq!(problem.limit, Some(MAX_BYTES.into()));
    }
}
