//! Encoding frames into a file.

use std::path::Path;

use crate::Mp4Error;
use crate::av1::Av1Encoder;
use crate::color::Picture;
use crate::format::{VideoCodec, VideoFormat};
use crate::h264::H264Encoder;
use crate::mux::Muxer;
use crate::track::TrackKind;

/// Encodes a video frame by frame into an MP4 file.
///
/// The file is not playable before [`VideoWriter::finish`] has returned, and a dropped writer leaves an incomplete file:
/// write to a temporary name.
pub struct VideoWriter {
    format: VideoFormat,
    encoder: Encoder,
    muxer: Muxer,
    picture: Picture,
    frames: u64,
}

enum Encoder {
    H264(Box<H264Encoder>),
    Av1(Box<Av1Encoder>),
}

/// Index of the video track.
const VIDEO: usize = 0;

impl VideoWriter {
    /// Creates the file, replacing an existing one.
    ///
    /// # Errors
    /// [`Mp4Error::Format`] for sizes or rates that cannot be encoded, [`Mp4Error::Encoder`], [`Mp4Error::Io`].
    pub fn create(path: impl AsRef<Path>, format: VideoFormat) -> Result<Self, Mp4Error> {
        format.check()?;
        let (encoder, brand) = match format.codec {
            VideoCodec::H264 => (Encoder::H264(Box::new(H264Encoder::new(&format)?)), b"avc1"),
            VideoCodec::Av1 => (Encoder::Av1(Box::new(Av1Encoder::new(&format)?)), b"av01"),
        };
        let muxer = Muxer::create(path.as_ref(), vec![TrackKind::Video(format)], brand)?;
        let picture = Picture::new(format.width as usize, format.height as usize);
        Ok(Self { format, encoder, muxer, picture, frames: 0 })
    }

    /// Appends a frame. `rgb`: RGB8 `[height, width, 3]`, row by row.
    ///
    /// # Errors
    /// [`Mp4Error::FrameSize`] when the size of the frame is not the video's, [`Mp4Error::Encoder`], [`Mp4Error::Io`].
    pub fn push_frame(&mut self, rgb: &[u8]) -> Result<(), Mp4Error> {
        let want = self.format.frame_bytes();
        if rgb.len() != want {
            return Err(Mp4Error::FrameSize { got: rgb.len(), want });
        }
        self.picture.set_rgb(rgb);
        self.frames += 1;
        match &mut self.encoder {
            Encoder::H264(encoder) => self.muxer.push(VIDEO, &encoder.encode(&self.picture)?),
            Encoder::Av1(encoder) => {
                encoder.encode(&self.picture)?.iter().try_for_each(|sample| self.muxer.push(VIDEO, sample))
            }
        }
    }

    /// Number of frames pushed so far.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Completes the file.
    ///
    /// # Errors
    /// [`Mp4Error::Empty`] without any frame, [`Mp4Error::Encoder`], [`Mp4Error::Io`].
    pub fn finish(mut self) -> Result<(), Mp4Error> {
        if self.frames == 0 {
            return Err(Mp4Error::Empty);
        }
        let config = match &mut self.encoder {
            Encoder::H264(encoder) => encoder.config()?,
            Encoder::Av1(encoder) => {
                for sample in encoder.finish()? {
                    self.muxer.push(VIDEO, &sample)?;
                }
                encoder.config()?
            }
        };
        self.muxer.finish(&[config])
    }
}
