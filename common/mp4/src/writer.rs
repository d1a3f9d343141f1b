//! Encoding frames and sound into a file.

use std::path::Path;

use crate::Mp4Error;
use crate::av1::Av1Encoder;
use crate::color::Picture;
use crate::format::{VideoCodec, VideoFormat};
use crate::h264::H264Encoder;
use crate::mux::Muxer;
use crate::sound::{EncodedSound, SoundCodec, samples_per_channel};
use crate::{flac_encoder, opus_encoder};

/// Encodes a video frame by frame into an MP4 file.
///
/// The file is not playable before [`VideoWriter::finish`] has returned, and a dropped writer leaves an incomplete file:
/// write to a temporary name.
pub struct VideoWriter {
    format: VideoFormat,
    encoder: Encoder,
    muxer: Muxer,
    picture: Picture,
    sound: Option<EncodedSound>,
    frames: u64,
}

enum Encoder {
    H264(Box<H264Encoder>),
    Av1(Box<Av1Encoder>),
}

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
        let muxer = Muxer::create(path.as_ref(), format, brand)?;
        let picture = Picture::new(format.width as usize, format.height as usize);
        Ok(Self { format, encoder, muxer, picture, sound: None, frames: 0 })
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
            Encoder::H264(encoder) => self.muxer.push(&encoder.encode(&self.picture)?),
            Encoder::Av1(encoder) => {
                encoder.encode(&self.picture)?.iter().try_for_each(|sample| self.muxer.push(sample))
            }
        }
    }

    /// Gives the video a sound track, which begins with its first frame. `samples`: f32 `[channels, samples]`, -1 to 1 (louder
    /// is clipped), at `rate` per second. It can be called at any time, once; the encoded sound is kept in memory until
    /// [`VideoWriter::finish`] (Opus: about 1 MB per minute).
    ///
    /// # Errors
    /// [`Mp4Error::SoundFormat`] for rates and channels that cannot be encoded ([`SoundCodec::check`]),
    /// [`Mp4Error::SoundSamples`] for samples that cannot, or a second sound track, [`Mp4Error::Encoder`].
    pub fn add_sound<C: AsRef<[f32]>>(
        &mut self,
        codec: SoundCodec,
        rate: u32,
        samples: &[C],
    ) -> Result<(), Mp4Error> {
        if self.sound.is_some() {
            return Err(Mp4Error::SoundSamples("the video has a sound track already"));
        }
        codec.check(rate, samples.len())?;
        let length = samples_per_channel(samples)?;
        self.sound = Some(match codec {
            SoundCodec::Opus => opus_encoder::encode(samples, length, rate)?,
            SoundCodec::Flac => flac_encoder::encode(samples, length, rate)?,
        });
        Ok(())
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
                    self.muxer.push(&sample)?;
                }
                encoder.config()?
            }
        };
        self.muxer.finish(config, self.sound)
    }
}
