//! MP4 files from RGB frames and sound: H.264 (openh264) or AV1 (rav1e, royalty-free), Opus (libopus) or FLAC (flacenc), encoded
//! in this process.
//!
//! A [`VideoWriter`] encodes frame by frame, so its memory does not grow with the length of the video (AV1 keeps a
//! look-ahead of fixed length). The finished file plays from its first bytes
//! (`moov` before `mdat`), has a key frame at least every [`KEY_FRAME_SECONDS`], no reordered frames, and declares
//! its colours (BT.709 in limited range, 4:2:0) in the bitstream and in the container. A sound track
//! ([`VideoWriter::add_sound`]) begins with the first frame, without the encoder's delay (an edit list), and is stored among the
//! pictures, a second of each in turn. [`SoundReader`] decodes it, and the sound of other programs' files.
//!
//! ```no_run
//! use videosdgx_mp4::{VideoFormat, VideoReader, VideoWriter};
//!
//! # fn main() -> Result<(), videosdgx_mp4::Mp4Error> {
//! let format = VideoFormat::h264(64, 48, 16);
//! let mut writer = VideoWriter::create("gray.mp4", format)?;
//! for _ in 0..16 {
//!     writer.push_frame(&vec![128; format.frame_bytes()])?;
//! }
//! writer.finish()?;
//! assert_eq!(VideoReader::open("gray.mp4")?.frames(), 16);
//! # Ok(()) }
//! ```

mod av1;
mod boxes;
mod color;
mod demux;
mod entry;
mod error;
mod flac_encoder;
mod format;
mod h264;
mod mux;
mod opus_encoder;
mod reader;
mod sound;
mod sound_decoder;
mod sound_entry;
mod sound_reader;
mod track;
mod writer;

pub use error::Mp4Error;
pub use format::{KEY_FRAME_SECONDS, VideoCodec, VideoFormat};
pub use reader::VideoReader;
pub use sound::SoundCodec;
pub use sound_reader::{DecodedSound, SoundReader};
pub use writer::VideoWriter;
