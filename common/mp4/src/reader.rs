//! Decoding a file into frames, to check generated videos.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use openh264::decoder::{DecodeOptions, Decoder, DecoderConfig, Flush};
use openh264::formats::YUVSource;

use crate::Mp4Error;
use crate::color::Picture;
use crate::demux::{Track, child, invalid, u32_at};

/// Largest sample that is read, in bytes.
const MAX_SAMPLE: u32 = 256 << 20;

/// Decodes the frames of an H.264 MP4, one at a time, as RGB8.
pub struct VideoReader {
    file: File,
    track: Track,
    size: (u32, u32),
    decoder: Decoder,
    next: usize,
}

impl VideoReader {
    /// Opens a file and reads its tables.
    ///
    /// # Errors
    /// [`Mp4Error::Invalid`] when the file is not an MP4 file with H.264 video.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Mp4Error> {
        let mut file = File::open(path)?;
        let track = Track::read(&mut file, b"vide")?.ok_or_else(|| invalid("it has no video track"))?;
        let entry = child(&track.entries, b"avc1").map_err(|_| invalid("only H.264 can be decoded"))?;
        let size = (u32_at(entry, 22)? & 0xffff, u32_at(entry, 24)? & 0xffff);
        let boxes = entry.get(78..).ok_or_else(|| invalid("the avc1 box is too short"))?;
        let avc = parameter_sets(child(boxes, b"avcC")?)?;
        let config = DecoderConfig::new().flush_after_decode(Flush::NoFlush);
        let api = openh264::OpenH264API::from_source();
        let mut decoder = Decoder::with_api_config(api, config)?;
        decoder.decode(&avc)?;
        Ok(Self { file, track, size, decoder, next: 0 })
    }

    /// Width and height of the frames.
    pub fn size(&self) -> (u32, u32) {
        self.size
    }

    /// Number of frames.
    pub fn frames(&self) -> usize {
        self.track.samples.len()
    }

    /// Duration in seconds.
    pub fn seconds(&self) -> f64 {
        self.track.duration as f64 / f64::from(self.track.timescale.max(1))
    }

    /// The next frame as RGB8 `[height, width, 3]`; `None` at the end.
    ///
    /// # Errors
    /// [`Mp4Error::Invalid`] or [`Mp4Error::Decoder`] for a sample that is broken or does not decode to a picture.
    pub fn next_frame(&mut self) -> Result<Option<Vec<u8>>, Mp4Error> {
        let Some(&(offset, size)) = self.track.samples.get(self.next) else {
            return Ok(None);
        };
        self.next += 1;
        if size > MAX_SAMPLE {
            return Err(invalid("a sample is too large"));
        }
        let mut sample = vec![0; size as usize];
        self.file.seek(SeekFrom::Start(offset))?;
        self.file.read_exact(&mut sample)?;
        let options = DecodeOptions::new().flush_after_decode(Flush::Flush);
        let packet = annex_b(&sample)?;
        let decoded = self.decoder.decode_with_options(&packet, options)?;
        let planes = decoded.ok_or_else(|| invalid("a sample does not decode to a picture"))?;
        let (width, height) = planes.dimensions();
        let (y, cb, cr) = planes.strides();
        let picture = Picture {
            width,
            height,
            y: tight(planes.y(), y, width, height),
            cb: tight(planes.u(), cb, width / 2, height / 2),
            cr: tight(planes.v(), cr, width / 2, height / 2),
        };
        Ok(Some(picture.to_rgb()))
    }
}

/// Copies a plane without the padding of its rows.
fn tight(plane: &[u8], stride: usize, width: usize, height: usize) -> Vec<u8> {
    plane.chunks(stride.max(1)).take(height).flat_map(|row| &row[..width.min(row.len())]).copied().collect()
}

/// Converts length-prefixed NAL units to Annex B (start codes).
fn annex_b(mut sample: &[u8]) -> Result<Vec<u8>, Mp4Error> {
    let mut stream = Vec::with_capacity(sample.len());
    while let Some((length, rest)) = sample.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let (nal, rest) = rest.split_at_checked(length).ok_or_else(|| invalid("a sample is broken"))?;
        stream.extend_from_slice(&[0, 0, 0, 1]);
        stream.extend_from_slice(nal);
        sample = rest;
    }
    Ok(stream)
}

/// The parameter sets of `avcC` in Annex B.
fn parameter_sets(avc: &[u8]) -> Result<Vec<u8>, Mp4Error> {
    let broken = || invalid("the avcC box is broken");
    let mut stream = Vec::new();
    let mut rest = avc.get(5..).ok_or_else(broken)?;
    for mask in [0x1f, 0xff] {
        let (count, mut sets) = rest.split_first().ok_or_else(broken)?;
        for _ in 0..count & mask {
            let (length, tail) = sets.split_first_chunk::<2>().ok_or_else(broken)?;
            let length = usize::from(u16::from_be_bytes(*length));
            let (set, tail) = tail.split_at_checked(length).ok_or_else(broken)?;
            stream.extend_from_slice(&[0, 0, 0, 1]);
            stream.extend_from_slice(set);
            sets = tail;
        }
        rest = sets;
    }
    Ok(stream)
}
