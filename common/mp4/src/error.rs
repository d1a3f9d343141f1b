//! Errors of writing and reading video files.

/// Why a video file could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Mp4Error {
    /// The video cannot be encoded in this size or at this rate.
    #[error("cannot encode {width}x{height} at {fps} frames/s: {reason}")]
    Format {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Frames per second.
        fps: u32,
        /// The limit that is exceeded.
        reason: String,
    },
    /// The size of a frame is not the video's.
    #[error("a frame of {got} bytes was pushed where {want} are needed (height x width x 3 bytes of RGB)")]
    FrameSize {
        /// Bytes pushed.
        got: usize,
        /// Bytes of a frame of this video.
        want: usize,
    },
    /// The video was finished before its first frame.
    #[error("the video has no frames")]
    Empty,
    /// Sound of this rate or with so many channels cannot be encoded.
    #[error("cannot encode sound of {channels} channels at {rate} Hz as {codec}: {reason}")]
    SoundFormat {
        /// Name of the codec.
        codec: &'static str,
        /// Samples per second.
        rate: u32,
        /// Number of channels.
        channels: usize,
        /// The limit that is exceeded.
        reason: &'static str,
    },
    /// The samples of the sound cannot be encoded.
    #[error("the samples of the sound cannot be encoded: {0}")]
    SoundSamples(&'static str),
    /// The encoder refused its settings or a frame.
    #[error("{codec} encoder: {source}")]
    Encoder {
        /// Name of the codec.
        codec: &'static str,
        /// The encoder's error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A sample or the decoder configuration could not be decoded.
    #[error("h264 decoder: {0}")]
    Decoder(#[from] openh264::Error),
    /// A packet of the sound, or its decoder's configuration, could not be decoded.
    #[error("{codec} decoder: {source}")]
    SoundDecoder {
        /// Name of the codec.
        codec: &'static str,
        /// The decoder's error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The sound is longer than the caller accepts.
    #[error("the sound is longer than {0} s")]
    SoundTooLong(f64),
    /// The file has no sound track.
    #[error("the file has no sound track")]
    NoSound,
    /// The file is not a supported MP4 file.
    #[error("not a readable MP4 file: {0}")]
    Invalid(String),
    /// Reading or writing the file failed.
    #[error("cannot read or write the video file: {0}")]
    Io(#[from] std::io::Error),
}
