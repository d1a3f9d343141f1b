//! Decoding the sound track of a file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use crate::Mp4Error;
use crate::demux::{Edit, Track, invalid};
use crate::sound_decoder::SoundDecoder;
use crate::sound_entry::SoundEntry;

/// Largest packet that is read, in bytes.
const MAX_PACKET: u32 = 16 << 20;
/// Most channels and samples per second that are decoded, so that the caller's seconds bound the memory.
const MAX_CHANNELS: usize = 2;
const MAX_RATE: u32 = 192_000;
/// Seconds that packets may hold beyond what is played: the end of the last packet.
const MAX_PADDING: f64 = 1.0;

/// Decodes the sound track (AAC-LC, Opus or FLAC) of an MP4 file.
///
/// ```no_run
/// use videosdgx_mp4::SoundReader;
///
/// let sound = SoundReader::open("video.mp4")?.decode(60.0)?;
/// assert_eq!(sound.samples.len(), 2, "left and right");
/// # Ok::<(), videosdgx_mp4::Mp4Error>(())
/// ```
pub struct SoundReader<R> {
    source: R,
    track: Track,
    entry: SoundEntry,
}

/// The decoded sound of a file, from time 0 of its pictures.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodedSound {
    /// Samples per second.
    pub rate: u32,
    /// `[channels, samples]`, usually from -1 to 1.
    pub samples: Vec<Vec<f32>>,
}

impl SoundReader<File> {
    /// Opens a file and reads its tables.
    ///
    /// # Errors
    /// As [`SoundReader::new`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Mp4Error> {
        Self::new(File::open(path)?)
    }
}

impl<R: Read + Seek> SoundReader<R> {
    /// Reads the tables of a file.
    ///
    /// # Errors
    /// [`Mp4Error::NoSound`], [`Mp4Error::Invalid`] when it is not an MP4 file, is fragmented, or its sound has another codec.
    pub fn new(mut source: R) -> Result<Self, Mp4Error> {
        let track = Track::read(&mut source, b"soun")?.ok_or(Mp4Error::NoSound)?;
        let entry = SoundEntry::read(&track.entries)?;
        Ok(Self { source, track, entry })
    }

    /// `aac`, `flac` or `opus`.
    pub fn codec(&self) -> &'static str {
        self.entry.codec()
    }

    /// Length of what is played, in seconds, as the tables say it.
    pub fn seconds(&self) -> f64 {
        let all = self.track.duration as f64 / f64::from(self.track.timescale);
        let played = |edit: Edit| edit.length.unwrap_or(all).min((all - edit.skip).max(0.0));
        self.track.edit.map_or(all, played)
    }

    /// Decodes the sound, at most `max_seconds` of it: the samples that are played from time 0 of the movie on (silence where the
    /// track begins later). The rate is the codec's: 48 kHz for Opus.
    ///
    /// # Errors
    /// [`Mp4Error::SoundTooLong`], [`Mp4Error::SoundDecoder`], [`Mp4Error::Invalid`], [`Mp4Error::Io`].
    pub fn decode(mut self, max_seconds: f64) -> Result<DecodedSound, Mp4Error> {
        let edit = self.track.edit.unwrap_or(Edit { delay: 0.0, skip: 0.0, length: None });
        if edit.delay + self.seconds() > max_seconds {
            return Err(Mp4Error::SoundTooLong(max_seconds));
        }
        let mut decoder = SoundDecoder::new(&self.entry)?;
        let (mut rate, mut samples) = (0, Vec::new());
        let mut packet = Vec::new();
        for (offset, size) in &self.track.samples {
            if *size > MAX_PACKET {
                return Err(invalid("a packet of the sound is too large"));
            }
            packet.resize(*size as usize, 0);
            self.source.seek(SeekFrom::Start(*offset))?;
            self.source.read_exact(&mut packet)?;
            rate = decoder.decode(&packet, &mut samples)?;
            if samples.len() > MAX_CHANNELS || rate > MAX_RATE {
                return Err(invalid(
                    "its sound has more than two channels or more than 192,000 samples per second",
                ));
            }
            let decoded = samples.first().map_or(0, Vec::len) as f64 / f64::from(rate.max(1));
            // Tables that promise less than the packets hold.
            if decoded > edit.skip + max_seconds + MAX_PADDING {
                return Err(Mp4Error::SoundTooLong(max_seconds));
            }
        }
        if rate == 0 || samples.iter().all(Vec::is_empty) {
            return Err(invalid("its sound has no samples"));
        }
        let in_samples = |seconds: f64| (seconds * f64::from(rate)).round() as usize;
        let end = in_samples(self.track.duration as f64 / f64::from(self.track.timescale));
        let end = edit.length.map_or(end, |length| end.min(in_samples(edit.skip + length)));
        for channel in &mut samples {
            channel.truncate(end);
            channel.drain(..in_samples(edit.skip).min(channel.len()));
            channel.splice(..0, std::iter::repeat_n(0.0, in_samples(edit.delay)));
        }
        Ok(DecodedSound { rate, samples })
    }
}
