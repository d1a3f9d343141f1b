//! The sample entry of a sound track: codec and decoder configuration.

use crate::Mp4Error;
use crate::demux::{child, children, invalid};

/// Decoder configuration of a sound track that can be decoded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SoundEntry {
    /// Opus with one or two channels.
    Opus {
        channels: u8,
        /// Gain in 1/256 dB.
        gain: i16,
    },
    /// FLAC: content of the metadata block `STREAMINFO`.
    Flac(Vec<u8>),
    /// AAC: an `AudioSpecificConfig` (ISO/IEC 14496-3).
    Aac(Vec<u8>),
}

/// Bytes of `AudioSampleEntry` before its boxes, in version 0 and in `QuickTime`'s version 1.
const ENTRY_FIELDS: [usize; 2] = [28, 44];
const STREAM_INFO: usize = 34;
const ES_DESCRIPTOR: u8 = 3;
const DECODER_CONFIG: u8 = 4;
const DECODER_SPECIFIC: u8 = 5;

impl SoundEntry {
    /// The first of the sample entries in `entries`.
    pub(crate) fn read(entries: &[u8]) -> Result<Self, Mp4Error> {
        let (kind, entry) = children(entries).next().ok_or_else(|| invalid("it has no sample entry"))?;
        let version = entry.get(9).copied().unwrap_or(0);
        let fields = ENTRY_FIELDS.get(usize::from(version)).copied();
        let boxes = fields
            .and_then(|fields| entry.get(fields..))
            .ok_or_else(|| invalid("the sample entry of the sound is too short or of an unknown version"))?;
        match &kind {
            b"Opus" => opus(child(boxes, b"dOps")?),
            b"fLaC" => {
                // Version and flags, then the block's header.
                let info = child(boxes, b"dfLa")?.get(8..8 + STREAM_INFO);
                info.map(|info| Self::Flac(info.to_vec())).ok_or_else(|| invalid("the dfLa box is too short"))
            }
            b"mp4a" => aac(child(boxes, b"esds")?).map(Self::Aac),
            other => {
                let name = String::from_utf8_lossy(other).into_owned();
                let name: String = name.chars().filter(|letter| !letter.is_control()).collect();
                Err(invalid(&format!("its sound is {name}; AAC, Opus and FLAC can be decoded")))
            }
        }
    }

    pub(crate) fn codec(&self) -> &'static str {
        match self {
            Self::Opus { .. } => "opus",
            Self::Flac(_) => "flac",
            Self::Aac(_) => "aac",
        }
    }
}

fn opus(content: &[u8]) -> Result<SoundEntry, Mp4Error> {
    let &[0, channels @ 1..=2, _, _, _, _, _, _, gain_high, gain_low, 0, ..] = content else {
        return Err(invalid("its Opus sound has more than two channels or is of an unknown version"));
    };
    Ok(SoundEntry::Opus { channels, gain: i16::from_be_bytes([gain_high, gain_low]) })
}

/// The `AudioSpecificConfig` in the descriptors of `esds` (ISO/IEC 14496-1, 7.2.6).
fn aac(esds: &[u8]) -> Result<Vec<u8>, Mp4Error> {
    let found = || -> Option<Vec<u8>> {
        let stream = descriptor(esds.get(4..)?, ES_DESCRIPTOR)?;
        let flags = *stream.get(2)?;
        // Optional fields: another stream's id, a URL, a clock's stream.
        let mut at = 3 + if flags & 0x80 != 0 { 2 } else { 0 };
        if flags & 0x40 != 0 {
            at += 1 + usize::from(*stream.get(at)?);
        }
        at += if flags & 0x20 != 0 { 2 } else { 0 };
        let config = descriptor(stream.get(at..)?, DECODER_CONFIG)?;
        Some(descriptor(config.get(13..)?, DECODER_SPECIFIC)?.to_vec())
    };
    found().ok_or_else(|| invalid("the esds box of its AAC sound is broken"))
}

/// The content of the first descriptor in `bytes` with this tag.
fn descriptor(mut bytes: &[u8], tag: u8) -> Option<&[u8]> {
    loop {
        let (&found, mut rest) = bytes.split_first()?;
        let mut length = 0usize;
        for _ in 0..4 {
            let (&byte, tail) = rest.split_first()?;
            rest = tail;
            length = length << 7 | usize::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                break;
            }
        }
        let (content, tail) = rest.split_at_checked(length)?;
        if found == tag {
            return Some(content);
        }
        bytes = tail;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn optional_fields_and_long_lengths_of_descriptors_are_skipped() {
        let specific = [DECODER_SPECIFIC, 0x80, 0x80, 0x80, 2, 0x11, 0x90];
        let config = [[DECODER_CONFIG, 13 + 7].as_slice(), &[0x40; 13], &specific].concat();
        let stream = |flags: u8, optional: &[u8]| {
            let length = (3 + optional.len() + config.len()) as u8;
            [&[0, 0, 0, 0, ES_DESCRIPTOR, length, 0, 1, flags], optional, &config].concat()
        };
        for (flags, optional) in
            [(0, [].as_slice()), (0x80, &[0, 9]), (0x40, b"\x03abc"), (0xE0, b"\0\x09\x01a\0\x08")]
        {
            assert_eq!(aac(&stream(flags, optional)).unwrap(), [0x11, 0x90], "{flags:x}");
        }
        for end in 0..stream(0, &[]).len() {
            assert!(aac(&stream(0, &[])[..end]).is_err(), "{end}");
        }
    }
}
