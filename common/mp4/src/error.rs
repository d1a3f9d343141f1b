//! What can go wrong when a video file is written or read.

/// Errors of the `mp4` module.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Mp4Error {
    /// The video cannot be encoded in this size or at this rate.
    #[error("cannot encode {width}x{height} at {fps} frames/s: {reason}")]
    Format {
        /// Pixels a row.
        width: u32,
        /// Rows.
        height: u32,
        /// Frames a second.
        fps: u32,
        /// Which limit is not kept.
        reason: String,
    },
    /// A frame has another size than the video.
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
    /// The encoder refused its settings or a frame.
    #[error("{codec} encoder: {reason}")]
    Encoder {
        /// Name of the codec.
        codec: &'static str,
        /// The encoder's own words.
        reason: String,
    },
    /// A file is not one that this module can read.
    #[error("not a readable mp4: {0}")]
    Invalid(String),
    /// Reading or writing the file failed.
    #[error("video file: {0}")]
    Io(#[from] std::io::Error),
}
