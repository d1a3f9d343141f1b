//! Codecs of a sound track, and what an encoder hands to the muxer.

use crate::Mp4Error;

/// Codec of a sound track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SoundCodec {
    /// Opus by libopus: small, plays in every browser.
    #[default]
    Opus,
    /// FLAC of 24 bits: lossless, about ten times as large.
    Flac,
}

impl SoundCodec {
    /// Name of the codec, for error messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Opus => "opus",
            Self::Flac => "flac",
        }
    }

    /// Checks rate and channels before anything is computed.
    ///
    /// # Errors
    /// [`Mp4Error::SoundFormat`] unless there are one or two channels, at 8, 12, 16, 24 or 48 kHz for Opus and at 1 Hz to
    /// 655,350 Hz for FLAC.
    pub fn check(self, rate: u32, channels: usize) -> Result<(), Mp4Error> {
        let refuse = |reason| Err(Mp4Error::SoundFormat { codec: self.name(), rate, channels, reason });
        if !(1..=2).contains(&channels) {
            return refuse("one or two channels can be encoded");
        }
        match self {
            Self::Opus if !matches!(rate, 8_000 | 12_000 | 16_000 | 24_000 | 48_000) => {
                refuse("the rate is 8, 12, 16, 24 or 48 kHz")
            }
            Self::Flac if !(1..=655_350).contains(&rate) => refuse("the rate is 1 to 655350 Hz"),
            _ => Ok(()),
        }
    }
}

/// Decoder configuration of a sound track: the content of the codec's box in the sample entry.
#[derive(Debug)]
pub(crate) enum SoundConfig {
    /// Content of `dOps` (Encapsulation of Opus in ISO Base Media File Format, 4.3.2).
    Opus(Vec<u8>),
    /// Content of `dfLa` (Encapsulation of FLAC in ISO Base Media File Format, 3.3.2).
    Flac(Vec<u8>),
}

/// An encoded sound track. Its time unit is 1 / `timescale` s.
#[derive(Debug)]
pub(crate) struct EncodedSound {
    pub(crate) config: SoundConfig,
    pub(crate) channels: u16,
    /// Bits per sample, as the sample entry shows them.
    pub(crate) bits: u16,
    pub(crate) timescale: u32,
    pub(crate) packets: Vec<Vec<u8>>,
    /// Length of every packet but the last.
    pub(crate) packet_length: u32,
    /// Length of all packets; the last may be cut.
    pub(crate) length: u64,
    /// Length at the beginning that the decoder needs but that is not played.
    pub(crate) skip: u32,
    /// How many packets before a position decoding must begin.
    pub(crate) preroll: u16,
}

/// Checks `samples` (planar, `[channels, samples]`) and returns their number per channel.
pub(crate) fn samples_per_channel<C: AsRef<[f32]>>(samples: &[C]) -> Result<usize, Mp4Error> {
    let length = samples.first().map_or(0, |channel| channel.as_ref().len());
    if samples.iter().any(|channel| channel.as_ref().len() != length) {
        return Err(Mp4Error::SoundSamples("the channels differ in length"));
    }
    if length == 0 {
        return Err(Mp4Error::SoundSamples("there are none"));
    }
    if samples.iter().any(|channel| channel.as_ref().iter().any(|sample| !sample.is_finite())) {
        return Err(Mp4Error::SoundSamples("they contain NaN or infinity"));
    }
    Ok(length)
}
