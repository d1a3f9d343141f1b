//! Opus encoding with libopus: packets of 20 ms at a variable bit rate.

use opus::{Application, Bitrate, Channels, Encoder};

use crate::Mp4Error;
use crate::sound::{EncodedSound, SoundConfig};

/// Rate of Opus' time: that of pre-skip, packets and the decoder's output.
pub(crate) const OPUS_RATE: u32 = 48_000;
/// Length of a packet at [`OPUS_RATE`]: 20 ms.
const PACKET_LENGTH: u32 = 960;
/// A decoder converges within 80 ms (RFC 7845, section 4.6).
const PREROLL_PACKETS: u16 = 4;
/// Bits per second of one channel and of two: no difference to the source can be heard (RFC 7587, section 3.1.1).
const BITRATES: [i32; 2] = [80_000, 144_000];
/// Largest packet in bytes: three frames of 1275.
const MAX_PACKET: usize = 4_000;

/// Encodes `samples`: planar, `length` per channel, at a rate that [`crate::SoundCodec::check`] accepts.
pub(crate) fn encode<C: AsRef<[f32]>>(
    samples: &[C],
    length: usize,
    rate: u32,
) -> Result<EncodedSound, Mp4Error> {
    let channels = if samples.len() == 1 { Channels::Mono } else { Channels::Stereo };
    let mut encoder = Encoder::new(rate, channels, Application::Audio).map_err(failed)?;
    encoder.set_bitrate(Bitrate::Bits(BITRATES[samples.len() - 1])).map_err(failed)?;
    // In samples at `rate`: silence that the decoder puts out before the first sample.
    let delay = usize::try_from(encoder.get_lookahead().map_err(failed)?).map_err(failed)?;
    let scale = OPUS_RATE / rate;
    let packet = (PACKET_LENGTH / scale) as usize;
    let count = (length + delay).div_ceil(packet);
    let mut packets = Vec::with_capacity(count);
    let mut interleaved = vec![0f32; packet * samples.len()];
    for first in (0..count).map(|index| index * packet) {
        for (index, frame) in interleaved.chunks_exact_mut(samples.len()).enumerate() {
            for (value, channel) in frame.iter_mut().zip(samples) {
                *value = channel.as_ref().get(first + index).map_or(0.0, |sample| sample.clamp(-1.0, 1.0));
            }
        }
        packets.push(encoder.encode_vec_float(&interleaved, MAX_PACKET).map_err(failed)?);
    }
    let skip = delay as u32 * scale;
    Ok(EncodedSound {
        config: SoundConfig::Opus(configuration(samples.len() as u8, skip, rate)),
        channels: samples.len() as u16,
        bits: 16,
        timescale: OPUS_RATE,
        packets,
        packet_length: PACKET_LENGTH,
        length: u64::from(skip) + length as u64 * u64::from(scale),
        skip,
        preroll: PREROLL_PACKETS,
    })
}

/// Content of `dOps`.
fn configuration(channels: u8, skip: u32, rate: u32) -> Vec<u8> {
    let mut content = vec![0, channels];
    content.extend_from_slice(&(skip as u16).to_be_bytes());
    content.extend_from_slice(&rate.to_be_bytes());
    // No gain, mapping family 0: mono or stereo.
    content.extend_from_slice(&[0, 0, 0]);
    content
}

fn failed(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Mp4Error {
    Mp4Error::Encoder { codec: "opus", source: source.into() }
}
