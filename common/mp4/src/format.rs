//! Size, rate and codec of a video file.

use crate::Mp4Error;

/// Longest distance between two key frames, in seconds.
pub const KEY_FRAME_SECONDS: u32 = 2;

/// Codec of a video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum VideoCodec {
    /// H.264 by openh264: plays everywhere.
    #[default]
    H264,
    /// AV1 by rav1e: royalty-free and smaller, slower to encode.
    Av1,
}

/// Size, rate and codec of a video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VideoFormat {
    /// Codec.
    pub codec: VideoCodec,
    /// Width in pixels, even.
    pub width: u32,
    /// Height in pixels, even.
    pub height: u32,
    /// Frames per second.
    pub fps: u32,
}

impl VideoFormat {
    /// H.264 of this size and rate.
    pub fn h264(width: u32, height: u32, fps: u32) -> Self {
        Self { codec: VideoCodec::H264, width, height, fps }
    }

    /// AV1 of this size and rate.
    pub fn av1(width: u32, height: u32, fps: u32) -> Self {
        Self { codec: VideoCodec::Av1, width, height, fps }
    }

    /// Checks the limits of container and codec, so that a request can be refused before it is computed.
    ///
    /// # Errors
    /// [`Mp4Error::Format`] for odd sizes (chroma is stored at half resolution), sizes outside of 16 to 3840 × 2160
    /// (landscape or portrait), and rates outside of 1 to 240.
    pub fn check(&self) -> Result<(), Mp4Error> {
        let (long, short) = (self.width.max(self.height), self.width.min(self.height));
        let refuse = |reason: &str| {
            Err(Mp4Error::Format {
                width: self.width,
                height: self.height,
                fps: self.fps,
                reason: reason.to_owned(),
            })
        };
        if !self.width.is_multiple_of(2) || !self.height.is_multiple_of(2) {
            refuse("width and height must be even")
        } else if short < 16 {
            refuse("width and height must be at least 16")
        } else if long > 3840 || short > 2160 {
            refuse("at most 3840x2160 (or 2160x3840) can be encoded")
        } else if !(1..=240).contains(&self.fps) {
            refuse("frames per second must be from 1 to 240")
        } else {
            Ok(())
        }
    }

    /// Bytes of one frame in RGB8.
    pub fn frame_bytes(&self) -> usize {
        self.width as usize * self.height as usize * 3
    }

    /// Maximum number of frames from one key frame to the next.
    pub(crate) fn key_frame_interval(&self) -> u32 {
        self.fps * KEY_FRAME_SECONDS
    }
}
