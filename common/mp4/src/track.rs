//! One track of a file: sizes and offsets of its samples, and the `trak` box that describes them.

use crate::boxes::BoxWriter;
use crate::entry::{CodecConfig, write_sound_entry, write_video_entry};
use crate::format::VideoFormat;
use crate::sound::EncodedSound;

/// Media type of a track. All are muxed the same way; only headers and sample entries differ.
#[derive(Debug)]
enum TrackKind {
    Video(VideoFormat, CodecConfig),
    Sound(Box<EncodedSound>),
}

/// An encoded sample: one frame.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) data: Vec<u8>,
    /// Whether decoding can start here.
    pub(crate) key: bool,
}

/// Sizes and offsets of the samples of a track. Samples are presented in storage order.
#[derive(Debug)]
pub(crate) struct SampleTable {
    sizes: Vec<u32>,
    /// Numbers (from 1) of the samples at which decoding can start.
    key_samples: Vec<u32>,
    chunks: Vec<Chunk>,
    /// Most samples of a chunk.
    longest: u32,
}

/// Consecutive samples of one track.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    /// Offset of the first byte in the media data.
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    pub(crate) samples: u32,
}

/// Duration of a frame in time units.
const FRAME_DURATION: u32 = 512;

impl SampleTable {
    /// A table whose chunks have at most `longest` samples.
    pub(crate) fn new(longest: u32) -> Self {
        Self { sizes: Vec::new(), key_samples: Vec::new(), chunks: Vec::new(), longest: longest.max(1) }
    }

    /// Records a sample that was stored at `offset` of the media data.
    pub(crate) fn push(&mut self, size: u32, key: bool, offset: u64) {
        self.sizes.push(size);
        if key {
            self.key_samples.push(self.sizes.len() as u32);
        }
        match self.chunks.last_mut() {
            Some(chunk) if chunk.samples < self.longest && offset == chunk.offset + chunk.bytes => {
                chunk.samples += 1;
                chunk.bytes += u64::from(size);
            }
            _ => self.chunks.push(Chunk { offset, bytes: u64::from(size), samples: 1 }),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }

    /// Most samples of a chunk.
    pub(crate) fn samples_per_chunk(&self) -> u32 {
        self.longest
    }

    pub(crate) fn chunks_mut(&mut self) -> &mut [Chunk] {
        &mut self.chunks
    }
}

/// A track that is described in `moov`.
#[derive(Debug)]
pub(crate) struct Track {
    kind: TrackKind,
    samples: SampleTable,
    /// Time units per second.
    pub(crate) timescale: u32,
    /// Duration of every sample but the last, in time units.
    sample_duration: u32,
    /// Of all samples, in time units.
    duration: u64,
}

impl Track {
    pub(crate) fn video(format: VideoFormat, config: CodecConfig, samples: SampleTable) -> Self {
        Self {
            timescale: format.fps * FRAME_DURATION,
            sample_duration: FRAME_DURATION,
            duration: samples.sizes.len() as u64 * u64::from(FRAME_DURATION),
            kind: TrackKind::Video(format, config),
            samples,
        }
    }

    /// A sound track whose packets `samples` describes.
    pub(crate) fn sound(sound: EncodedSound, samples: SampleTable) -> Self {
        Self {
            timescale: sound.timescale,
            sample_duration: sound.packet_length,
            duration: sound.length,
            kind: TrackKind::Sound(Box::new(sound)),
            samples,
        }
    }

    /// Duration of what is played, in units of `movie_timescale`.
    pub(crate) fn played(&self, movie_timescale: u32) -> u64 {
        let units = (self.duration - u64::from(self.skip())) * u64::from(movie_timescale);
        units.div_ceil(u64::from(self.timescale))
    }

    /// What is decoded first but not played, in time units.
    fn skip(&self) -> u32 {
        match &self.kind {
            TrackKind::Video(..) => 0,
            TrackKind::Sound(sound) => sound.skip,
        }
    }

    /// Writes `trak`. The media data begins at offset `media_start` of the file.
    pub(crate) fn write(&self, w: &mut BoxWriter, id: u32, movie_timescale: u32, media_start: u64) {
        let played = self.played(movie_timescale);
        let (handler, name, volume, width, height): (_, &[u8], _, _, _) = match &self.kind {
            TrackKind::Video(format, _) => (b"vide", b"VideoHandler\0", 0, format.width, format.height),
            TrackKind::Sound(_) => (b"soun", b"SoundHandler\0", 0x100, 0, 0),
        };
        w.nest(b"trak", |w| {
            // Enabled, in movie, in preview.
            w.full(b"tkhd", 1, 7, |w| {
                w.zeros(16); // creation and modification time
                w.u32(id);
                w.u32(0);
                w.u64(played);
                w.zeros(12); // layer, alternate group
                w.u16(volume);
                w.zeros(2);
                w.identity_matrix();
                w.u32(width << 16);
                w.u32(height << 16);
            });
            if self.skip() > 0 {
                self.write_edit_list(w, played);
            }
            w.nest(b"mdia", |w| {
                w.full(b"mdhd", 1, 0, |w| {
                    w.zeros(16);
                    w.u32(self.timescale);
                    w.u64(self.duration);
                    w.u16(0x55c4); // language: und
                    w.u16(0);
                });
                w.full(b"hdlr", 0, 0, |w| {
                    w.u32(0);
                    w.raw(handler);
                    w.zeros(12);
                    w.raw(name);
                });
                w.nest(b"minf", |w| self.write_media(w, media_start));
            });
        });
    }

    /// Presentation begins after what is skipped, at time 0 of the movie.
    fn write_edit_list(&self, w: &mut BoxWriter, played: u64) {
        w.nest(b"edts", |w| {
            w.full(b"elst", 1, 0, |w| {
                w.u32(1);
                w.u64(played);
                w.u64(u64::from(self.skip()));
                w.u32(0x1_0000); // rate 1
            });
        });
    }

    fn write_media(&self, w: &mut BoxWriter, media_start: u64) {
        match &self.kind {
            TrackKind::Video(..) => w.full(b"vmhd", 0, 1, |w| w.zeros(8)),
            TrackKind::Sound(_) => w.full(b"smhd", 0, 0, |w| w.zeros(4)),
        }
        w.nest(b"dinf", |w| {
            w.full(b"dref", 0, 0, |w| {
                w.u32(1);
                w.full(b"url ", 0, 1, |_| ()); // in this file
            });
        });
        w.nest(b"stbl", |w| {
            w.full(b"stsd", 0, 0, |w| {
                w.u32(1);
                match &self.kind {
                    TrackKind::Video(format, config) => write_video_entry(w, format, config),
                    TrackKind::Sound(sound) => write_sound_entry(w, sound),
                }
            });
            self.write_times(w);
            self.samples.write(w, media_start, matches!(self.kind, TrackKind::Video(..)));
            if let TrackKind::Sound(sound) = &self.kind
                && sound.preroll > 0
            {
                write_preroll(w, sound.preroll, self.samples.sizes.len() as u32);
            }
        });
    }

    fn write_times(&self, w: &mut BoxWriter) {
        let count = self.samples.sizes.len() as u32;
        let last = self.duration - u64::from(count - 1) * u64::from(self.sample_duration);
        let runs = match last == u64::from(self.sample_duration) {
            true => vec![(count, self.sample_duration)],
            false => vec![(count - 1, self.sample_duration), (1, last as u32)],
        };
        let runs: Vec<_> = runs.into_iter().filter(|(samples, _)| *samples > 0).collect();
        w.full(b"stts", 0, 0, |w| {
            w.u32(runs.len() as u32);
            for (samples, duration) in runs {
                w.u32(samples);
                w.u32(duration);
            }
        });
    }
}

impl SampleTable {
    /// Writes the boxes of the table. Without key samples, decoding can start at every sample.
    fn write(&self, w: &mut BoxWriter, media_start: u64, has_key_samples: bool) {
        if has_key_samples {
            w.full(b"stss", 0, 0, |w| {
                w.u32(self.key_samples.len() as u32);
                self.key_samples.iter().for_each(|number| w.u32(*number));
            });
        }
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

/// All samples are in one group, whose decoding begins `packets` before the position that is wanted.
fn write_preroll(w: &mut BoxWriter, packets: u16, samples: u32) {
    w.full(b"sgpd", 1, 0, |w| {
        w.raw(b"roll");
        w.u32(2); // bytes of an entry
        w.u32(1);
        w.u16(packets.wrapping_neg());
    });
    w.full(b"sbgp", 0, 0, |w| {
        w.raw(b"roll");
        w.u32(1);
        w.u32(samples);
        w.u32(1);
    });
}
