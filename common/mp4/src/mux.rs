//! Writing the file: samples first, then the tables are inserted in front of them.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::Mp4Error;
use crate::boxes::BoxWriter;
use crate::track::{CodecConfig, Sample, Track, TrackKind};

/// Bytes moved at a time when the samples are shifted to insert `moov`.
const MOVE_BYTES: u64 = 1 << 20;
/// Bytes of the header of a box with a 64-bit size.
const MDAT_HEADER: u64 = 16;

/// Writes samples into `mdat` and, at the end, `moov` in front of it. Memory: a few bytes per sample.
#[derive(Debug)]
pub(crate) struct Muxer {
    file: BufWriter<File>,
    tracks: Vec<Track>,
    /// Offset of `mdat`, after `ftyp`.
    head: u64,
    /// Bytes of all samples.
    media: u64,
}

impl Muxer {
    /// Creates the file, replacing an existing one.
    pub(crate) fn create(path: &Path, tracks: Vec<TrackKind>, brand: &[u8; 4]) -> Result<Self, Mp4Error> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        let mut file = BufWriter::with_capacity(1 << 18, file);
        let mut w = BoxWriter::default();
        w.nest(b"ftyp", |w| {
            w.raw(b"isom");
            w.u32(0x200);
            [b"isom", b"iso2", brand, b"mp41"].into_iter().for_each(|b| w.raw(b));
        });
        let ftyp = w.into_bytes();
        file.write_all(&ftyp)?;
        file.write_all(&[0; MDAT_HEADER as usize])?;
        let tracks = tracks.into_iter().map(Track::new).collect();
        Ok(Self { file, tracks, head: ftyp.len() as u64, media: 0 })
    }

    /// Stores the next sample of a track (an index into the tracks given to [`Muxer::create`]).
    pub(crate) fn push(&mut self, track: usize, sample: &Sample) -> Result<(), Mp4Error> {
        let size = u32::try_from(sample.data.len())
            .map_err(|_| Mp4Error::Invalid("a sample is larger than 4 GiB".to_owned()))?;
        self.file.write_all(&sample.data)?;
        self.tracks[track].push(size, sample.key, self.media);
        self.media += u64::from(size);
        Ok(())
    }

    /// Writes `moov` between `ftyp` and `mdat`, with one configuration per track.
    pub(crate) fn finish(mut self, configs: &[CodecConfig]) -> Result<(), Mp4Error> {
        if self.tracks.iter().any(Track::is_empty) {
            return Err(Mp4Error::Empty);
        }
        self.file.flush()?;
        // The length of `moov` depends on the offsets only by their width, which never shrinks as `moov` grows.
        let mut length = 0;
        let moov = loop {
            let moov = self.moov(configs, self.head + length + MDAT_HEADER);
            if moov.len() as u64 == length {
                break moov;
            }
            length = moov.len() as u64;
        };
        let mut file = self.file.into_inner().map_err(|error| error.into_error())?;
        move_up(&mut file, self.head + MDAT_HEADER, self.media, length)?;
        file.seek(SeekFrom::Start(self.head))?;
        file.write_all(&moov)?;
        let mut mdat = BoxWriter::default();
        mdat.u32(1);
        mdat.raw(b"mdat");
        mdat.u64(MDAT_HEADER + self.media);
        file.write_all(&mdat.into_bytes())?;
        file.flush()?;
        Ok(())
    }

    fn moov(&self, configs: &[CodecConfig], media_start: u64) -> Vec<u8> {
        // The first track's own timescale makes its duration exact.
        let timescale = self.tracks.first().map_or(1000, Track::timescale);
        let in_movie = |t: &Track| (t.duration() * u64::from(timescale)).div_ceil(u64::from(t.timescale()));
        let mut w = BoxWriter::default();
        w.nest(b"moov", |w| {
            w.full(b"mvhd", 1, 0, |w| {
                w.zeros(16);
                w.u32(timescale);
                w.u64(self.tracks.iter().map(in_movie).max().unwrap_or(0));
                w.u32(0x1_0000); // rate 1
                w.u16(0x100); // volume 1
                w.zeros(10);
                w.identity_matrix();
                w.zeros(24);
                w.u32(self.tracks.len() as u32 + 1); // next track's id
            });
            for (index, (track, config)) in self.tracks.iter().zip(configs).enumerate() {
                track.write(w, index as u32 + 1, in_movie(track), config, media_start);
            }
        });
        w.into_bytes()
    }
}

/// Moves `length` bytes at `start` towards the end of the file by `by`, last block first.
fn move_up(file: &mut File, start: u64, length: u64, by: u64) -> std::io::Result<()> {
    let mut block = vec![0; MOVE_BYTES.min(length) as usize];
    let mut left = length;
    while left > 0 {
        let size = MOVE_BYTES.min(left);
        left -= size;
        let block = &mut block[..size as usize];
        file.seek(SeekFrom::Start(start + left))?;
        file.read_exact(block)?;
        file.seek(SeekFrom::Start(start + left + by))?;
        file.write_all(block)?;
    }
    Ok(())
}
