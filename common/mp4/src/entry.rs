//! Sample entries: codec, size or channels, and the decoder's configuration.

use crate::boxes::BoxWriter;
use crate::format::VideoFormat;
use crate::sound::{EncodedSound, SoundConfig};

/// Decoder configuration of a video track: the content of the codec's box in the sample entry.
#[derive(Debug)]
pub(crate) enum CodecConfig {
    /// Content of `avcC` (ISO/IEC 14496-15).
    Avc(Vec<u8>),
    /// Content of `av1C` (AV1 Codec ISO Media File Format Binding).
    Av1(Vec<u8>),
}

/// Writes `VisualSampleEntry` with the codec's configuration and the colours.
pub(crate) fn write_video_entry(w: &mut BoxWriter, format: &VideoFormat, config: &CodecConfig) {
    let (entry, inner, content) = match config {
        CodecConfig::Avc(content) => (b"avc1", b"avcC", content),
        CodecConfig::Av1(content) => (b"av01", b"av1C", content),
    };
    w.nest(entry, |w| {
        w.zeros(6);
        w.u16(1); // data reference
        w.zeros(16);
        w.u16(format.width as u16);
        w.u16(format.height as u16);
        w.u32(0x48_0000); // 72 dpi
        w.u32(0x48_0000);
        w.u32(0);
        w.u16(1); // frames per sample
        w.zeros(32); // compressor's name
        w.u16(24); // depth
        w.u16(0xffff);
        w.nest(inner, |w| w.raw(content));
        w.nest(b"colr", |w| {
            w.raw(b"nclx");
            // BT.709 primaries, transfer and matrix; not full range.
            [1, 1, 1].into_iter().for_each(|code| w.u16(code));
            w.u8(0);
        });
        w.nest(b"pasp", |w| {
            w.u32(1);
            w.u32(1);
        });
    });
}

/// Writes `AudioSampleEntry` with the codec's configuration.
pub(crate) fn write_sound_entry(w: &mut BoxWriter, sound: &EncodedSound) {
    let (entry, inner, content) = match &sound.config {
        SoundConfig::Opus(content) => (b"Opus", b"dOps", content),
        SoundConfig::Flac(content) => (b"fLaC", b"dfLa", content),
    };
    w.nest(entry, |w| {
        w.zeros(6);
        w.u16(1); // data reference
        w.zeros(8);
        w.u16(sound.channels);
        w.u16(sound.bits);
        w.zeros(4);
        // A rate that does not fit is in the codec's configuration only.
        w.u32(u16::try_from(sound.timescale).map_or(0, |rate| u32::from(rate) << 16));
        w.nest(inner, |w| w.raw(content));
    });
}
