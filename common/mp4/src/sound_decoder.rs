//! Decoding the packets of a sound track: Opus with libopus, FLAC and AAC with symphonia.

use opus::Channels;
use symphonia::core::codecs::audio::well_known::{CODEC_ID_AAC, CODEC_ID_FLAC};
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::packet::PacketRef;
use symphonia::core::units::{Duration, Timestamp};

use crate::Mp4Error;
use crate::opus_encoder::OPUS_RATE;
use crate::sound_entry::SoundEntry;

/// Longest packet of Opus, 120 ms, at [`OPUS_RATE`].
const MAX_OPUS_PACKET: usize = 5760;

/// Decodes packets in their order.
pub(crate) enum SoundDecoder {
    Opus { decoder: opus::Decoder, channels: usize, interleaved: Vec<f32> },
    Symphonia { decoder: Box<dyn AudioDecoder>, codec: &'static str },
}

impl SoundDecoder {
    pub(crate) fn new(entry: &SoundEntry) -> Result<Self, Mp4Error> {
        let codec = entry.codec();
        let (id, configuration) = match entry {
            SoundEntry::Opus { channels, gain } => {
                let channels = usize::from(*channels);
                let layout = if channels == 1 { Channels::Mono } else { Channels::Stereo };
                let mut decoder =
                    opus::Decoder::new(OPUS_RATE, layout).map_err(|error| failed(codec, error))?;
                decoder.set_gain(i32::from(*gain)).map_err(|error| failed(codec, error))?;
                let interleaved = vec![0.0; MAX_OPUS_PACKET * channels];
                return Ok(Self::Opus { decoder, channels, interleaved });
            }
            SoundEntry::Flac(configuration) => (CODEC_ID_FLAC, configuration),
            SoundEntry::Aac(configuration) => (CODEC_ID_AAC, configuration),
        };
        let mut parameters = AudioCodecParameters::new();
        parameters.for_codec(id).with_extra_data(configuration.clone().into_boxed_slice());
        let options = AudioDecoderOptions::default().verify(false);
        let decoder = symphonia::default::get_codecs()
            .make_audio_decoder(&parameters, &options)
            .map_err(|error| failed(codec, error))?;
        Ok(Self::Symphonia { decoder, codec })
    }

    /// Decodes a packet and appends its samples to `channels`, which has an entry for each channel after the first packet.
    /// Returns the rate.
    pub(crate) fn decode(&mut self, packet: &[u8], channels: &mut Vec<Vec<f32>>) -> Result<u32, Mp4Error> {
        match self {
            Self::Opus { decoder, channels: count, interleaved } => {
                let decoded = decoder
                    .decode_float(packet, interleaved, false)
                    .map_err(|error| failed("opus", error))?;
                channels.resize_with(*count, Vec::new);
                for (index, channel) in channels.iter_mut().enumerate() {
                    channel.extend(interleaved[..decoded * *count].iter().skip(index).step_by(*count));
                }
                Ok(OPUS_RATE)
            }
            Self::Symphonia { decoder, codec } => {
                let packet = PacketRef::new(0, Timestamp::default(), Duration::default(), packet);
                let decoded = decoder.decode_ref(&packet).map_err(|error| failed(codec, error))?;
                let rate = decoded.spec().rate();
                let mut planes: Vec<Vec<f32>> = Vec::new();
                decoded.copy_to_vecs_planar(&mut planes);
                if !channels.is_empty() && channels.len() != planes.len() {
                    return Err(failed(codec, "the number of channels changes"));
                }
                channels.resize_with(planes.len(), Vec::new);
                for (channel, plane) in channels.iter_mut().zip(planes) {
                    channel.extend(plane);
                }
                Ok(rate)
            }
        }
    }
}

fn failed(codec: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Mp4Error {
    Mp4Error::SoundDecoder { codec, source: source.into() }
}
