//! H.264 encoding with openh264: constant quantiser, one slice per frame, parameter sets stored outside the samples.

use openh264::OpenH264API;
use openh264::encoder::{
    Complexity, Encoder, EncoderConfig, FrameRate, FrameType, IntraFramePeriod, Profile, QpRange,
    RateControlMode, VuiConfig,
};
use openh264::formats::YUVSlices;

use crate::Mp4Error;
use crate::color::Picture;
use crate::entry::CodecConfig;
use crate::format::VideoFormat;
use crate::track::Sample;

/// Quantiser of every frame, 0 to 51: at 20 a coded picture is hard to distinguish from its source.
const QP: u8 = 20;

const SPS: u8 = 7;
const PPS: u8 = 8;
const ACCESS_UNIT_DELIMITER: u8 = 9;

/// Encodes pictures into samples of length-prefixed NAL units.
pub(crate) struct H264Encoder {
    encoder: Encoder,
    sps: Vec<u8>,
    pps: Vec<u8>,
}

impl H264Encoder {
    pub(crate) fn new(format: &VideoFormat) -> Result<Self, Mp4Error> {
        let config = EncoderConfig::new()
            .complexity(Complexity::High)
            .profile(Profile::High)
            // The mode that uses only the quantiser range below.
            .rate_control_mode(RateControlMode::Bufferbased)
            .qp(QpRange::new(QP, QP))
            .adaptive_quantization(false)
            .background_detection(false)
            .skip_frames(false)
            .max_frame_rate(FrameRate::from_hz(format.fps as f32))
            .intra_frame_period(IntraFramePeriod::from_num_frames(format.key_frame_interval()))
            .vui(VuiConfig::bt709());
        let encoder = Encoder::with_api_config(OpenH264API::from_source(), config).map_err(failed)?;
        Ok(Self { encoder, sps: Vec::new(), pps: Vec::new() })
    }

    /// Encodes the next picture; openh264 returns its sample without delay.
    pub(crate) fn encode(&mut self, picture: &Picture) -> Result<Sample, Mp4Error> {
        let (width, height) = (picture.width, picture.height);
        let planes = YUVSlices::new(
            (&picture.y, &picture.cb, &picture.cr),
            (width, height),
            (width, width / 2, width / 2),
        );
        let stream = self.encoder.encode(&planes).map_err(failed)?;
        let key = match stream.frame_type() {
            FrameType::IDR => true,
            FrameType::I | FrameType::P => false,
            other => return Err(failed(format!("unexpected frame type {other:?}"))),
        };
        let mut data = Vec::new();
        for layer in (0..stream.num_layers()).filter_map(|index| stream.layer(index)) {
            for nal in (0..layer.nal_count()).filter_map(|index| layer.nal_unit(index)) {
                let nal = without_start_code(nal);
                match nal.first().map(|header| header & 0x1f) {
                    Some(SPS) => self.sps = nal.to_vec(),
                    Some(PPS) => self.pps = nal.to_vec(),
                    Some(ACCESS_UNIT_DELIMITER) | None => (),
                    Some(_) => {
                        data.extend_from_slice(&(nal.len() as u32).to_be_bytes());
                        data.extend_from_slice(nal);
                    }
                }
            }
        }
        Ok(Sample { data, key })
    }

    /// `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15, 5.3.3).
    pub(crate) fn config(&self) -> Result<CodecConfig, Mp4Error> {
        let &[_, profile, compatibility, level, ..] = self.sps.as_slice() else {
            return Err(failed("the stream has no sequence parameter set"));
        };
        let mut record = vec![1, profile, compatibility, level, 0xfc | 3, 0xe0 | 1];
        record.extend_from_slice(&(self.sps.len() as u16).to_be_bytes());
        record.extend_from_slice(&self.sps);
        record.push(1);
        record.extend_from_slice(&(self.pps.len() as u16).to_be_bytes());
        record.extend_from_slice(&self.pps);
        if matches!(profile, 100 | 110 | 122 | 144) {
            // 4:2:0, 8 bits luma and chroma, no extensions.
            record.extend_from_slice(&[0xfc | 1, 0xf8, 0xf8, 0]);
        }
        Ok(CodecConfig::Avc(record))
    }
}

fn failed(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Mp4Error {
    Mp4Error::Encoder { codec: "h264", source: source.into() }
}

/// A NAL unit of Annex B without its start code of three or four bytes.
fn without_start_code(nal: &[u8]) -> &[u8] {
    nal.strip_prefix(&[0, 0, 0, 1]).or_else(|| nal.strip_prefix(&[0, 0, 1])).unwrap_or(nal)
}
