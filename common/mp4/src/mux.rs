//! Writing the file: pictures first, then the tables are inserted in front of them and the sound between them.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::Mp4Error;
use crate::boxes::BoxWriter;
use crate::entry::CodecConfig;
use crate::format::VideoFormat;
use crate::sound::EncodedSound;
use crate::track::{Sample, SampleTable, Track};

/// Bytes moved at a time when the pictures are shifted to make room.
const MOVE_BYTES: u64 = 1 << 20;
/// Bytes of the header of a box with a 64-bit size.
const MDAT_HEADER: u64 = 16;

/// Writes pictures into `mdat`; at the end, `moov` in front of it and the sound among them, a second of each in turn. Memory: a
/// few bytes per picture, and the encoded sound.
#[derive(Debug)]
pub(crate) struct Muxer {
    file: BufWriter<File>,
    format: VideoFormat,
    video: SampleTable,
    /// Offset of `mdat`, after `ftyp`.
    head: u64,
    /// Bytes of all pictures.
    media: u64,
}

/// A part of the media data in its final order.
enum Piece {
    /// Pictures that are at this offset of the media data already.
    Stored { offset: u64, bytes: u64 },
    /// Packets of the sound.
    Sound(std::ops::Range<usize>),
}

impl Muxer {
    /// Creates the file, replacing an existing one.
    pub(crate) fn create(path: &Path, format: VideoFormat, brand: &[u8; 4]) -> Result<Self, Mp4Error> {
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
        // One chunk per second keeps the tables short and the tracks interleaved.
        let video = SampleTable::new(format.fps);
        Ok(Self { file, format, video, head: ftyp.len() as u64, media: 0 })
    }

    /// Stores the next picture.
    pub(crate) fn push(&mut self, sample: &Sample) -> Result<(), Mp4Error> {
        let size = u32::try_from(sample.data.len())
            .map_err(|_| Mp4Error::Invalid("a sample is larger than 4 GiB".to_owned()))?;
        self.file.write_all(&sample.data)?;
        self.video.push(size, sample.key, self.media);
        self.media += u64::from(size);
        Ok(())
    }

    /// Writes `moov` between `ftyp` and `mdat`, and the sound between the pictures.
    pub(crate) fn finish(mut self, config: CodecConfig, sound: Option<EncodedSound>) -> Result<(), Mp4Error> {
        if self.video.is_empty() {
            return Err(Mp4Error::Empty);
        }
        self.file.flush()?;
        let (pieces, table) = interleave(&mut self.video, sound.as_ref());
        let mut sound = sound;
        let packets = sound.as_mut().map(|sound| std::mem::take(&mut sound.packets)).unwrap_or_default();
        let media = self.media + packets.iter().map(|packet| packet.len() as u64).sum::<u64>();
        let mut tracks = vec![Track::video(self.format, config, self.video)];
        tracks.extend(sound.map(|sound| Track::sound(sound, table)));
        // The length of `moov` depends on the offsets only by their width, which never shrinks as `moov` grows.
        let mut length = 0;
        let moov = loop {
            let moov = write_moov(&tracks, self.head + length + MDAT_HEADER);
            if moov.len() as u64 == length {
                break moov;
            }
            length = moov.len() as u64;
        };
        let mut file = self.file.into_inner().map_err(|error| error.into_error())?;
        let start = self.head + MDAT_HEADER;
        place(&mut file, &pieces, &packets, start, start + length + media)?;
        file.seek(SeekFrom::Start(self.head))?;
        file.write_all(&moov)?;
        let mut mdat = BoxWriter::default();
        mdat.u32(1);
        mdat.raw(b"mdat");
        mdat.u64(MDAT_HEADER + media);
        file.write_all(&mdat.into_bytes())?;
        file.flush()?;
        Ok(())
    }
}

fn write_moov(tracks: &[Track], media_start: u64) -> Vec<u8> {
    // The first track's own timescale makes its duration exact.
    let timescale = tracks.first().map_or(1000, |track| track.timescale);
    let mut w = BoxWriter::default();
    w.nest(b"moov", |w| {
        w.full(b"mvhd", 1, 0, |w| {
            w.zeros(16);
            w.u32(timescale);
            w.u64(tracks.iter().map(|track| track.played(timescale)).max().unwrap_or(0));
            w.u32(0x1_0000); // rate 1
            w.u16(0x100); // volume 1
            w.zeros(10);
            w.identity_matrix();
            w.zeros(24);
            w.u32(tracks.len() as u32 + 1); // next track's id
        });
        for (index, track) in tracks.iter().enumerate() {
            track.write(w, index as u32 + 1, timescale, media_start);
        }
    });
    w.into_bytes()
}

/// Puts behind each chunk of pictures the sound that is played until its end. Updates the chunks' offsets and returns the order of
/// the media data and the table of the sound's packets.
fn interleave(video: &mut SampleTable, sound: Option<&EncodedSound>) -> (Vec<Piece>, SampleTable) {
    let packets = sound.map_or(&[][..], |sound| &sound.packets);
    let packet_seconds =
        sound.map_or(1.0, |sound| f64::from(sound.packet_length) / f64::from(sound.timescale));
    let mut table = SampleTable::new(u32::MAX);
    let (mut pieces, mut next, mut inserted, mut frames) = (Vec::new(), 0, 0, 0);
    let (fps, chunks) = (video.samples_per_chunk(), video.chunks_mut());
    let last = chunks.len().saturating_sub(1);
    for (index, chunk) in chunks.iter_mut().enumerate() {
        pieces.push(Piece::Stored { offset: chunk.offset, bytes: chunk.bytes });
        chunk.offset += inserted;
        frames += chunk.samples;
        let seconds = f64::from(frames) / f64::from(fps);
        let end = match index == last {
            true => packets.len(),
            false => ((seconds / packet_seconds).ceil() as usize).clamp(next, packets.len()),
        };
        let mut offset = chunk.offset + chunk.bytes;
        for packet in &packets[next..end] {
            table.push(packet.len() as u32, true, offset);
            offset += packet.len() as u64;
        }
        inserted += offset - (chunk.offset + chunk.bytes);
        pieces.push(Piece::Sound(next..end));
        next = end;
    }
    (pieces, table)
}

/// Brings the media data into the order of `pieces`, so that it ends at offset `end` of the file; the pictures are at `start`. The
/// last piece is placed first: no piece moves towards the beginning, so none is overwritten before it has been moved.
fn place(
    file: &mut File,
    pieces: &[Piece],
    packets: &[Vec<u8>],
    start: u64,
    end: u64,
) -> std::io::Result<()> {
    let mut block = vec![0; MOVE_BYTES as usize];
    let mut at = end;
    for piece in pieces.iter().rev() {
        match piece {
            Piece::Sound(range) => {
                let bytes = packets[range.clone()].concat();
                at -= bytes.len() as u64;
                file.seek(SeekFrom::Start(at))?;
                file.write_all(&bytes)?;
            }
            Piece::Stored { offset, bytes } => {
                let mut left = *bytes;
                while left > 0 {
                    let size = MOVE_BYTES.min(left);
                    left -= size;
                    at -= size;
                    let block = &mut block[..size as usize];
                    file.seek(SeekFrom::Start(start + offset + left))?;
                    file.read_exact(block)?;
                    file.seek(SeekFrom::Start(at))?;
                    file.write_all(block)?;
                }
            }
        }
    }
    Ok(())
}
