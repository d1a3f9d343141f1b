//! AV1 encoding with rav1e: constant quantiser, one temporal unit per sample.

use rav1e::config::SpeedSettings;
use rav1e::prelude::{
    ChromaSamplePosition, ChromaSampling, ColorDescription, ColorPrimaries, Config, Context, EncoderConfig,
    EncoderStatus, FrameType, MatrixCoefficients, PixelRange, Rational, TransferCharacteristics,
};

use crate::Mp4Error;
use crate::color::Picture;
use crate::entry::CodecConfig;
use crate::format::VideoFormat;
use crate::track::Sample;

/// rav1e's preset, 0 (slow) to 10 (fast).
const SPEED: u8 = 9;
/// Base quantiser, 0 to 255; chosen for about the quality of the H.264 files.
const QUANTIZER: usize = 80;

const OBU_SEQUENCE_HEADER: u8 = 1;
const OBU_TEMPORAL_DELIMITER: u8 = 2;

/// Encodes pictures into temporal units. The encoder looks some pictures ahead, so samples are delayed, but in order.
pub(crate) struct Av1Encoder {
    context: Context<u8>,
    level: u8,
    sequence_header: Vec<u8>,
}

impl Av1Encoder {
    pub(crate) fn new(format: &VideoFormat) -> Result<Self, Mp4Error> {
        let level = level(format);
        let interval = u64::from(format.key_frame_interval());
        let encoder = EncoderConfig {
            width: format.width as usize,
            height: format.height as usize,
            time_base: Rational { num: 1, den: u64::from(format.fps) },
            chroma_sampling: ChromaSampling::Cs420,
            chroma_sample_position: ChromaSamplePosition::Vertical,
            pixel_range: PixelRange::Limited,
            color_description: Some(ColorDescription {
                color_primaries: ColorPrimaries::BT709,
                transfer_characteristics: TransferCharacteristics::BT709,
                matrix_coefficients: MatrixCoefficients::BT709,
            }),
            level_idx: Some(level),
            min_key_frame_interval: interval.min(12),
            max_key_frame_interval: interval,
            quantizer: QUANTIZER,
            tiles: if format.width * format.height >= 1280 * 720 { 4 } else { 1 },
            speed_settings: SpeedSettings::from_preset(SPEED),
            ..EncoderConfig::default()
        };
        let context = Config::new().with_encoder_config(encoder).new_context().map_err(failed)?;
        Ok(Self { context, level, sequence_header: Vec::new() })
    }

    /// Sends a picture to the encoder and returns the samples that are ready.
    pub(crate) fn encode(&mut self, picture: &Picture) -> Result<Vec<Sample>, Mp4Error> {
        let mut frame = self.context.new_frame();
        let chroma = picture.width / 2;
        let planes = [(&picture.y, picture.width), (&picture.cb, chroma), (&picture.cr, chroma)];
        for (plane, (bytes, stride)) in frame.planes.iter_mut().zip(planes) {
            plane.copy_from_raw_u8(bytes, stride, 1);
        }
        self.context.send_frame(frame).map_err(failed)?;
        self.receive()
    }

    /// Ends the stream and returns the remaining samples.
    pub(crate) fn finish(&mut self) -> Result<Vec<Sample>, Mp4Error> {
        self.context.send_frame(None).map_err(failed)?;
        self.receive()
    }

    fn receive(&mut self) -> Result<Vec<Sample>, Mp4Error> {
        let mut samples = Vec::new();
        loop {
            match self.context.receive_packet() {
                Ok(packet) => {
                    let mut data = Vec::with_capacity(packet.data.len());
                    for (kind, obu) in Obus(&packet.data) {
                        match kind {
                            // In a file the sample boundaries delimit the units.
                            OBU_TEMPORAL_DELIMITER => continue,
                            OBU_SEQUENCE_HEADER if self.sequence_header.is_empty() => {
                                self.sequence_header = obu.to_vec();
                            }
                            _ => (),
                        }
                        data.extend_from_slice(obu);
                    }
                    samples.push(Sample { data, key: packet.frame_type == FrameType::KEY });
                }
                Err(EncoderStatus::Encoded) => (),
                Err(EncoderStatus::NeedMoreData | EncoderStatus::LimitReached) => return Ok(samples),
                Err(other) => return Err(failed(other)),
            }
        }
    }

    /// `AV1CodecConfigurationRecord` (AV1 ISO-BMFF binding, 2.3.3) of the main profile in 8 bits, 4:2:0.
    pub(crate) fn config(&self) -> Result<CodecConfig, Mp4Error> {
        if self.sequence_header.is_empty() {
            return Err(failed("the stream has no sequence header"));
        }
        const VERTICAL_CHROMA: u8 = 1;
        let mut record = vec![0x81, self.level, 0b1100 | VERTICAL_CHROMA, 0];
        record.extend_from_slice(&self.sequence_header);
        Ok(CodecConfig::Av1(record))
    }
}

fn failed(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Mp4Error {
    Mp4Error::Encoder { codec: "av1", source: source.into() }
}

/// `seq_level_idx` (AV1 specification, annex A.3): the lowest level that allows the picture size and rate.
fn level(format: &VideoFormat) -> u8 {
    // (index, largest picture, largest width, largest height, luma samples per second)
    const LEVELS: [(u8, u64, u32, u32, u64); 9] = [
        (0, 147_456, 2048, 1152, 4_423_680),        // 2.0
        (1, 278_784, 2816, 1584, 8_363_520),        // 2.1
        (4, 665_856, 4352, 2448, 19_975_680),       // 3.0
        (5, 1_065_024, 5504, 3096, 31_950_720),     // 3.1
        (8, 2_359_296, 6144, 3456, 70_778_880),     // 4.0
        (9, 2_359_296, 6144, 3456, 141_557_760),    // 4.1
        (12, 8_912_896, 8192, 4352, 267_386_880),   // 5.0
        (13, 8_912_896, 8192, 4352, 534_773_760),   // 5.1
        (14, 8_912_896, 8192, 4352, 1_069_547_520), // 5.2
    ];
    const UNBOUNDED: u8 = 31;
    let (width, height) = (format.width, format.height);
    let picture = u64::from(width) * u64::from(height);
    let rate = picture * u64::from(format.fps);
    LEVELS
        .iter()
        .find(|(_, size, wide, high, samples)| {
            picture <= *size && width <= *wide && height <= *high && rate <= *samples
        })
        .map_or(UNBOUNDED, |level| level.0)
}

/// Iterates over the OBUs of a temporal unit: type, and all bytes including the header.
struct Obus<'a>(&'a [u8]);

impl<'a> Iterator for Obus<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let header = *self.0.first()?;
        let mut at = if header & 4 == 0 { 1 } else { 2 };
        let mut length = 0usize;
        if header & 2 == 0 {
            length = self.0.len() - at;
        } else {
            for shift in (0..56).step_by(7) {
                let byte = *self.0.get(at)?;
                at += 1;
                length |= usize::from(byte & 0x7f) << shift;
                if byte & 0x80 == 0 {
                    break;
                }
            }
        }
        let (obu, rest) = self.0.split_at_checked(at.checked_add(length)?)?;
        self.0 = rest;
        Some(((header >> 3) & 15, obu))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_grow_with_picture_and_rate() {
        assert_eq!(level(&VideoFormat::av1(64, 64, 16)), 0);
        assert_eq!(level(&VideoFormat::av1(832, 480, 16)), 4);
        assert_eq!(level(&VideoFormat::av1(1280, 720, 24)), 5);
        assert_eq!(level(&VideoFormat::av1(1920, 1080, 60)), 9);
        assert_eq!(level(&VideoFormat::av1(2160, 3840, 30)), 12);
        assert_eq!(level(&VideoFormat::av1(3840, 2160, 60)), 13);
    }
}
