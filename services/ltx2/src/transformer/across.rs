//! Attention between the streams of a block.

use videosdgx_tensor::{Tensor, TensorError, Weights, gated_add, rms_modulated};

use super::TransformerConfig;
use super::config::Modality;
use super::coordinates::AudioPositions;
use super::embedder::{Embedded, Vectors, load_table};
use crate::attention::{AttentionShape, CrossAttention};
use crate::names::TensorList;

const TO_VIDEO: &str = "audio_to_video_attn";
const TO_AUDIO: &str = "video_to_audio_attn";
const VIDEO_TABLE: &str = "video_a2v_cross_attn_scale_shift_table";
const AUDIO_TABLE: &str = "audio_a2v_cross_attn_scale_shift_table";

/// Attention of the video to the sound and of the sound to the video.
pub(super) struct Across {
    to_video: CrossAttention,
    to_audio: CrossAttention,
    video: CrossTable,
    audio: CrossTable,
    eps: f64,
}

/// Modulation of one stream: 1 + scale and shift towards the video, then towards the sound, `[4, 1, width]` f32; and the
/// gate of what the stream receives, `[1, 1, width]` f32.
struct CrossTable {
    modulation: Tensor,
    gate: Tensor,
}

/// Vectors of the noise level for one stream.
pub(super) struct CrossNoise {
    pub(super) modulation: Embedded,
    pub(super) gate: Embedded,
}

impl CrossTable {
    fn load(weights: &Weights, name: &str, width: i64) -> Result<Self, TensorError> {
        let table = load_table(weights, name, [5, width], &[0, 2])?;
        Ok(Self { modulation: table.f_narrow(0, 0, 4)?, gate: table.f_narrow(0, 4, 1)? })
    }

    fn at(&self, noise: &CrossNoise) -> (Vectors, Vectors) {
        let rows = noise.modulation.rows.as_ref();
        let modulation = Vectors::new(&self.modulation, &noise.modulation.vectors, rows);
        (modulation, Vectors::new(&self.gate, &noise.gate.vectors, rows))
    }
}

impl Across {
    pub(super) fn load(weights: &Weights, config: &TransformerConfig) -> Result<Self, TensorError> {
        let [to_video, to_audio] = shapes(config);
        Ok(Self {
            to_video: CrossAttention::load(&weights.at(TO_VIDEO), &to_video)?,
            to_audio: CrossAttention::load(&weights.at(TO_AUDIO), &to_audio)?,
            video: CrossTable::load(weights, VIDEO_TABLE, config.width())?,
            audio: CrossTable::load(weights, AUDIO_TABLE, config.audio_width())?,
            eps: config.norm_eps,
        })
    }

    pub(super) fn tensors(list: &mut TensorList, config: &TransformerConfig) {
        let [to_video, to_audio] = shapes(config);
        list.within(TO_VIDEO, |list| to_video.tensors(list));
        list.within(TO_AUDIO, |list| to_audio.tensors(list));
        list.tensor(VIDEO_TABLE, &[5, config.width()]);
        list.tensor(AUDIO_TABLE, &[5, config.audio_width()]);
    }

    /// `video` and `audio`: `[batch, tokens, width]` of each → the same. Both attend to the other as it was before.
    pub(super) fn forward(
        &self,
        [video, audio]: [Tensor; 2],
        [video_noise, audio_noise]: [&CrossNoise; 2],
        positions: &AudioPositions,
    ) -> [Tensor; 2] {
        let (of_video, video_gate) = self.video.at(video_noise);
        let (of_audio, audio_gate) = self.audio.at(audio_noise);
        let video_rope = Some(&positions.video_across);
        let audio_rope = Some(&positions.across);
        let sound = self
            .to_video
            .memory(&rms_modulated(&audio, self.eps, Some(of_audio.modulation(0, 1))), audio_rope);
        let pictures = self
            .to_audio
            .memory(&rms_modulated(&video, self.eps, Some(of_video.modulation(2, 3))), video_rope);
        let asked = rms_modulated(&video, self.eps, Some(of_video.modulation(0, 1)));
        let heard = self.to_video.forward(&asked, &sound, video_rope, None);
        let asked = rms_modulated(&audio, self.eps, Some(of_audio.modulation(2, 3)));
        let seen = self.to_audio.forward(&asked, &pictures, audio_rope, None);
        [
            gated_add(video, &heard, video_gate.gate(0), video_gate.rows()),
            gated_add(audio, &seen, audio_gate.gate(0), audio_gate.rows()),
        ]
    }
}

/// Attention to the sound from the video, and to the video from the sound, both with the sound's heads.
fn shapes(config: &TransformerConfig) -> [AttentionShape; 2] {
    let [video, audio] = [Modality::Video, Modality::Audio].map(|modality| config.stream(modality));
    [config.attention(video, audio, audio.width()), config.attention(audio, audio, video.width())]
}
