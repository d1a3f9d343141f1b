//! One track of a file: sizes and offsets of its samples, and the `trak` box that describes them.

use crate::boxes::BoxWriter;
use crate::format::VideoFormat;

/// Media type of a track. All are muxed the same way; only the header and the sample entry differ.
#[derive(Debug)]
pub(crate) enum TrackKind {
    /// Video.
    Video(VideoFormat),
}

/// Decoder configuration of a track: the content of the codec's box in the sample entry.
#[derive(Debug)]
pub(crate) enum CodecConfig {
    /// Content of `avcC` (ISO/IEC 14496-15).
    Avc(Vec<u8>),
    /// Content of `av1C` (AV1 Codec ISO Media File Format Binding).
    Av1(Vec<u8>),
}

/// An encoded sample: one frame.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) data: Vec<u8>,
    /// Whether decoding can start here.
    pub(crate) key: bool,
}

/// A track that is being written. Samples have equal durations and are presented in storage order.
#[derive(Debug)]
pub(crate) struct Track {
    kind: TrackKind,
    sizes: Vec<u32>,
    /// Numbers (from 1) of the samples at which decoding can start.
    key_samples: Vec<u32>,
    chunks: Vec<Chunk>,
    /// End of the last sample, as an offset in the media data.
    end: u64,
}

/// Consecutive samples of one track.
#[derive(Debug)]
struct Chunk {
    /// Offset of the first byte in the media data.
    offset: u64,
    samples: u32,
}

/// Duration of a sample in time units.
const SAMPLE_DURATION: u32 = 512;

impl Track {
    pub(crate) fn new(kind: TrackKind) -> Self {
        Self { kind, sizes: Vec::new(), key_samples: Vec::new(), chunks: Vec::new(), end: 0 }
    }

    /// Records a sample that was stored at `offset` of the media data.
    pub(crate) fn push(&mut self, size: u32, key: bool, offset: u64) {
        self.sizes.push(size);
        let number = self.sizes.len() as u32;
        if key {
            self.key_samples.push(number);
        }
        // One chunk per second keeps the tables short and the samples of several tracks interleaved.
        let longest = self.samples_per_second();
        match self.chunks.last_mut() {
            Some(chunk) if chunk.samples < longest && offset == self.end => chunk.samples += 1,
            _ => self.chunks.push(Chunk { offset, samples: 1 }),
        }
        self.end = offset + u64::from(size);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }

    /// Time units per second.
    pub(crate) fn timescale(&self) -> u32 {
        self.samples_per_second() * SAMPLE_DURATION
    }

    /// In units of `timescale`.
    pub(crate) fn duration(&self) -> u64 {
        self.sizes.len() as u64 * u64::from(SAMPLE_DURATION)
    }

    fn samples_per_second(&self) -> u32 {
        match &self.kind {
            TrackKind::Video(format) => format.fps,
        }
    }

    /// Writes `trak`. `movie_duration` is this track's duration in the movie's timescale; the media data begins at
    /// offset `media_start` of the file.
    pub(crate) fn write(
        &self,
        w: &mut BoxWriter,
        id: u32,
        movie_duration: u64,
        config: &CodecConfig,
        media_start: u64,
    ) {
        let TrackKind::Video(format) = &self.kind;
        w.nest(b"trak", |w| {
            // Enabled, in movie, in preview.
            w.full(b"tkhd", 1, 7, |w| {
                w.zeros(16); // creation and modification time
                w.u32(id);
                w.u32(0);
                w.u64(movie_duration);
                w.zeros(16); // layer, alternate group, volume
                w.identity_matrix();
                w.u32(format.width << 16);
                w.u32(format.height << 16);
            });
            w.nest(b"mdia", |w| {
                w.full(b"mdhd", 1, 0, |w| {
                    w.zeros(16);
                    w.u32(self.timescale());
                    w.u64(self.duration());
                    w.u16(0x55c4); // language: und
                    w.u16(0);
                });
                w.full(b"hdlr", 0, 0, |w| {
                    w.u32(0);
                    w.raw(b"vide");
                    w.zeros(12);
                    w.raw(b"VideoHandler\0");
                });
                w.nest(b"minf", |w| {
                    w.full(b"vmhd", 0, 1, |w| w.zeros(8));
                    w.nest(b"dinf", |w| {
                        w.full(b"dref", 0, 0, |w| {
                            w.u32(1);
                            w.full(b"url ", 0, 1, |_| ()); // in this file
                        });
                    });
                    w.nest(b"stbl", |w| {
                        w.full(b"stsd", 0, 0, |w| {
                            w.u32(1);
                            write_video_entry(w, format, config);
                        });
                        self.write_tables(w, media_start);
                    });
                });
            });
        });
    }

    fn write_tables(&self, w: &mut BoxWriter, media_start: u64) {
        w.full(b"stts", 0, 0, |w| {
            w.u32(1);
            w.u32(self.sizes.len() as u32);
            w.u32(SAMPLE_DURATION);
        });
        w.full(b"stss", 0, 0, |w| {
            w.u32(self.key_samples.len() as u32);
            self.key_samples.iter().for_each(|number| w.u32(*number));
        });
        // Runs of chunks with equally many samples.
        w.full(b"stsc", 0, 0, |w| {
            let mut runs: Vec<(u32, u32)> = Vec::new();
            for (index, chunk) in self.chunks.iter().enumerate() {
                if runs.last().is_none_or(|(_, samples)| *samples != chunk.samples) {
                    runs.push((index as u32 + 1, chunk.samples));
                }
            }
            w.u32(runs.len() as u32);
            for (first_chunk, samples) in runs {
                w.u32(first_chunk);
                w.u32(samples);
                w.u32(1);
            }
        });
        w.full(b"stsz", 0, 0, |w| {
            w.u32(0);
            w.u32(self.sizes.len() as u32);
            self.sizes.iter().for_each(|size| w.u32(*size));
        });
        let offsets = self.chunks.iter().map(|chunk| media_start + chunk.offset);
        if offsets.clone().all(|offset| u32::try_from(offset).is_ok()) {
            w.full(b"stco", 0, 0, |w| {
                w.u32(self.chunks.len() as u32);
                offsets.for_each(|offset| w.u32(offset as u32));
            });
        } else {
            w.full(b"co64", 0, 0, |w| {
                w.u32(self.chunks.len() as u32);
                offsets.for_each(|offset| w.u64(offset));
            });
        }
    }
}

/// Writes `VisualSampleEntry` with the codec's configuration and the colours.
fn write_video_entry(w: &mut BoxWriter, format: &VideoFormat, config: &CodecConfig) {
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
