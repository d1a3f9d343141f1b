//! Where tokens lie: seconds and pixels, and their rotary angles.

use videosdgx_tensor::{Device, Kind, Rope, Tensor};

use super::TransformerConfig;
use super::config::Modality;

/// Rotary angles of the tokens of both streams; computed once per generation.
pub struct Positions {
    pub(super) video: Rope,
    pub(super) audio: Option<AudioPositions>,
    /// `[tokens, 1]` in the compute type: 1 for tokens of a latent frame that is a single picture.
    pub(super) keyframes: Option<Tensor>,
}

/// Angles that only a generation with sound needs.
pub(super) struct AudioPositions {
    pub(super) own: Rope,
    /// Of the tokens of the video, by time alone.
    pub(super) video_across: Rope,
    pub(super) across: Rope,
}

impl TransformerConfig {
    /// Bounds of the tokens of a video of `[frames, rows, columns]` latents: f32 `[3, tokens, 2]` on the CPU, first and
    /// last of seconds, rows and columns of pixels.
    pub fn video_coordinates(&self, latents: [i64; 3], fps: f64) -> Tensor {
        let coordinates = self.pixels(latents);
        let time = coordinates.select(0, 0);
        let offset = (self.causal_offset - self.vae_scale_factors[0]) as f64;
        // The first latent frame is one frame of the video, not as many as the others.
        time.shallow_clone().copy_(&((&time + offset).clamp_min(0.0) / fps));
        coordinates
    }

    /// As [`Self::video_coordinates`], for a picture that is given as frame `frame` of the video by further tokens.
    pub fn keyframe_coordinates(&self, rows: i64, columns: i64, frame: i64, fps: f64) -> Tensor {
        let coordinates = self.pixels([1, rows, columns]);
        let time = coordinates.select(0, 0);
        for (bound, value) in [(0, frame), (1, frame + 1)] {
            let _ = time.select(-1, bound).fill_(value as f64 / fps);
        }
        coordinates
    }

    /// Bounds of the tokens of `frames` latents of sound: f32 `[1, frames, 2]` on the CPU, in seconds.
    pub fn audio_coordinates(&self, frames: i64) -> Tensor {
        let scale = self.audio_scale_factor as f64;
        let bound = |first: i64| {
            let frames = Tensor::arange_start(first, first + frames, (Kind::Float, Device::Cpu));
            let spectrogram = (frames * scale + (self.causal_offset as f64 - scale)).clamp_min(0.0);
            spectrogram * self.audio_hop_length as f64 / self.audio_sampling_rate as f64
        };
        Tensor::stack(&[bound(0), bound(1)], -1).unsqueeze(0)
    }

    /// Bounds of latents in frames, rows and columns of the video: f32 `[3, tokens, 2]`.
    fn pixels(&self, latents: [i64; 3]) -> Tensor {
        let axes: Vec<Tensor> = (0..3)
            .map(|axis| {
                let first = Tensor::arange(latents[axis], (Kind::Float, Device::Cpu));
                let bounds = Tensor::stack(&[&first, &(&first + 1.0)], -1);
                let mut shape = [1, 1, 1, 2];
                shape[axis] = latents[axis];
                let [frames, rows, columns] = latents;
                let bounds = bounds * self.vae_scale_factors[axis] as f64;
                bounds.view(shape).expand([frames, rows, columns, 2], false).reshape([-1, 2])
            })
            .collect();
        Tensor::stack(&axes, 0)
    }

    /// Rotary angles of tokens at these coordinates, on `device`; `keyframes` as for [`Positions`].
    pub(super) fn positions(
        &self,
        video: &Tensor,
        audio: Option<&Tensor>,
        keyframes: Option<Tensor>,
        device: Device,
    ) -> Positions {
        let middle = |bounds: &Tensor| (bounds.select(-1, 0) + bounds.select(-1, 1)) / 2.0;
        // [axes, tokens] → [tokens, axes]
        let fractions = |bounds: &Tensor, largest: &[i64]| {
            let middle = middle(&bounds.to_device(Device::Cpu));
            let axes: Vec<Tensor> = largest
                .iter()
                .enumerate()
                .map(|(axis, &largest)| middle.select(0, axis as i64) / largest as f64)
                .collect();
            Tensor::stack(&axes, -1)
        };
        let seconds = self.pos_embed_max_pos.max(self.audio_pos_embed_max_pos);
        let axes = [self.pos_embed_max_pos, self.base_height, self.base_width];
        let across = |modality, bounds: &Tensor| {
            self.cross_rotary(modality).at(&fractions(bounds, &[seconds]), device)
        };
        Positions {
            video: self.rotary(Modality::Video).at(&fractions(video, &axes), device),
            audio: audio.map(|audio| AudioPositions {
                own: self
                    .rotary(Modality::Audio)
                    .at(&fractions(audio, &[self.audio_pos_embed_max_pos]), device),
                video_across: across(Modality::Video, video),
                across: across(Modality::Audio, audio),
            }),
            keyframes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(tensor: &Tensor) -> Vec<f64> {
        Vec::<f64>::try_from(tensor.flatten(0, -1).to_kind(Kind::Double)).expect("numbers")
    }

    #[test]
    fn the_first_latent_frame_is_one_frame() {
        let config = TransformerConfig::default();
        let video = config.video_coordinates([3, 1, 2], 8.0);
        assert_eq!(video.size(), [3, 6, 2]);
        let seconds = [0.0, 0.125, 0.0, 0.125, 0.125, 1.125, 0.125, 1.125, 1.125, 2.125, 1.125, 2.125];
        assert_eq!(values(&video.select(0, 0)), seconds);
        assert_eq!(values(&video.select(0, 2).narrow(0, 0, 2)), [0.0, 32.0, 32.0, 64.0]);
        let picture = config.keyframe_coordinates(1, 1, 16, 8.0);
        assert_eq!(values(&picture), [2.0, 2.125, 0.0, 32.0, 0.0, 32.0]);
    }

    #[test]
    fn sound_is_measured_in_seconds_too() {
        let sound = TransformerConfig::default().audio_coordinates(3);
        let expected = [0.0, 0.01, 0.01, 0.05, 0.05, 0.09];
        assert_eq!(sound.size(), [1, 3, 2]);
        assert!(values(&sound).iter().zip(expected).all(|(value, expected)| (value - expected).abs() < 1e-7));
    }
}
