//! FLAC encoding with flacenc: 24 bits per sample, blocks of equal length.

use flacenc::bitsink::MemSink;
use flacenc::component::{BitRepr, StreamInfo};
use flacenc::config::Encoder;
use flacenc::error::Verify;
use flacenc::source::{Context, Fill, FrameBuf};

use crate::Mp4Error;
use crate::sound::{EncodedSound, SoundConfig};

/// Samples of a block.
const BLOCK: usize = 4096;
const BITS: usize = 24;
/// The value of 1.0.
const FULL_SCALE: f32 = (1 << (BITS - 1)) as f32;
/// Header of the only metadata block: last, type `STREAMINFO`, 34 bytes.
const STREAM_INFO_HEADER: [u8; 4] = [0x80, 0, 0, 34];

/// Encodes `samples`: planar, `length` per channel.
pub(crate) fn encode<C: AsRef<[f32]>>(
    samples: &[C],
    length: usize,
    rate: u32,
) -> Result<EncodedSound, Mp4Error> {
    let channels = samples.len();
    let config = Encoder::default().into_verified().map_err(|(_, error)| failed(error))?;
    let mut info = StreamInfo::new(rate as usize, channels, BITS).map_err(failed)?;
    let mut context = Context::new(BITS, channels);
    let mut block = FrameBuf::with_size(channels, BLOCK).map_err(failed)?;
    let mut packets = Vec::with_capacity(length.div_ceil(BLOCK));
    let mut interleaved = Vec::with_capacity(BLOCK * channels);
    for first in (0..length).step_by(BLOCK) {
        interleaved.clear();
        for index in first..(first + BLOCK).min(length) {
            interleaved.extend(samples.iter().map(|channel| quantized(channel.as_ref()[index])));
        }
        block.fill_interleaved(&interleaved).map_err(failed)?;
        context.fill_interleaved(&interleaved).map_err(failed)?;
        let frame =
            flacenc::encode_fixed_size_frame(&config, &block, packets.len(), &info).map_err(failed)?;
        let mut sink = MemSink::<u8>::new();
        frame.write(&mut sink).map_err(failed)?;
        packets.push(sink.into_inner());
    }
    info.set_block_sizes(BLOCK, BLOCK).map_err(failed)?;
    info.set_total_samples(length);
    info.set_md5_digest(&context.md5_digest());
    let mut sink = MemSink::<u8>::new();
    info.write(&mut sink).map_err(failed)?;
    let mut content = vec![0; 4];
    content.extend_from_slice(&STREAM_INFO_HEADER);
    content.extend_from_slice(&sink.into_inner());
    Ok(EncodedSound {
        config: SoundConfig::Flac(content),
        channels: channels as u16,
        bits: BITS as u16,
        timescale: rate,
        packets,
        packet_length: BLOCK as u32,
        length: length as u64,
        skip: 0,
        preroll: 0,
    })
}

/// A sample in 24 bits; beyond ±1 it is clipped.
fn quantized(sample: f32) -> i32 {
    (sample * FULL_SCALE).round().clamp(-FULL_SCALE, FULL_SCALE - 1.0) as i32
}

/// flacenc's errors cannot be sent between threads: their text is kept.
fn failed(error: impl std::fmt::Display) -> Mp4Error {
    Mp4Error::Encoder { codec: "flac", source: error.to_string().into() }
}
