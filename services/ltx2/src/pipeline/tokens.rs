//! The picture as tokens, some of which may be given.

use videosdgx_tensor::{Device, Kind, Tensor};

use super::denoiser::noised;
use crate::transformer::{GivenTokens, TransformerConfig};

/// Latents `[1, z, frames, rows, columns]` → tokens `[1, frames · rows · columns, z]`.
pub(super) fn pack(latents: &Tensor) -> Tensor {
    latents.flatten(2, 4).transpose(1, 2)
}

/// The reverse of [`pack`], for `size` `[frames, rows, columns]`.
pub(super) fn unpack(tokens: &Tensor, [frames, rows, columns]: [i64; 3]) -> Tensor {
    let channels = tokens.size()[2];
    tokens.transpose(1, 2).reshape([1, channels, frames, rows, columns])
}

/// Given pictures as normalised latents `[1, z, 1, rows, columns]` f32.
#[derive(Debug, Default)]
pub(super) struct GivenPictures {
    /// The first frame.
    pub(super) first: Option<Tensor>,
    /// The last frame.
    pub(super) last: Option<Tensor>,
}

impl GivenPictures {
    /// No picture is given.
    pub(super) const NONE: Self = Self { first: None, last: None };
}

/// The tokens of a picture at the start of a denoising loop.
pub(super) struct VideoTokens {
    /// `[1, tokens, z]` f32: those of the video, then those of a given last frame.
    pub(super) start: Tensor,
    /// Bounds of the tokens, see [`TransformerConfig::video_coordinates`].
    pub(super) coordinates: Tensor,
    /// Which tokens are given.
    pub(super) given: Option<GivenTokens>,
    /// `[1, tokens, 1]` f32, 1 for given tokens, and what they are `[1, tokens, z]`.
    kept: Option<(Tensor, Tensor)>,
    /// Latent frames, rows and columns.
    size: [i64; 3],
}

impl VideoTokens {
    /// Tokens of a video of `size` latents `[frames, rows, columns]` at `fps`: `noise` `[1, tokens, z]` f32 at the level
    /// `sigma` over `latents` (tokens, 0 without), but for the given pictures.
    ///
    /// The first frame replaces the tokens of the first latent frame, a last frame is added as further tokens at the time
    /// of the first frame of the last latent frame: as diffusers' `LTX2ConditionPipeline` does.
    pub(super) fn new(
        config: &TransformerConfig,
        size: [i64; 3],
        fps: f64,
        (noise, sigma): (&Tensor, f64),
        latents: Option<&Tensor>,
        pictures: &GivenPictures,
    ) -> Self {
        let [frames, rows, columns] = size;
        let mut coordinates = config.video_coordinates(size, fps);
        let mut start = match latents {
            Some(latents) => noised(latents, noise, sigma),
            None => noise * sigma,
        };
        let device = start.device();
        if pictures.first.is_none() && pictures.last.is_none() {
            return Self { start, coordinates, given: None, kept: None, size };
        }
        let mut strengths = vec![0.0_f32; usize::try_from(frames * rows * columns).unwrap_or(0)];
        let mut clean = start.zeros_like();
        if let Some(first) = &pictures.first {
            let tokens = pack(first).to_device(device);
            let count = rows * columns;
            start.narrow(1, 0, count).copy_(&tokens);
            clean.narrow(1, 0, count).copy_(&tokens);
            strengths[..usize::try_from(count).unwrap_or(0)].fill(1.0);
        }
        // With a single latent frame the last frame is the first one.
        if let Some(last) = pictures.last.as_ref().filter(|_| frames > 1) {
            let tokens = pack(last).to_device(device);
            start = Tensor::cat(&[&start, &tokens], 1);
            clean = Tensor::cat(&[&clean, &tokens], 1);
            let frame = (frames - 2) * config.vae_scale_factors[0] + 1;
            let more = config.keyframe_coordinates(rows, columns, frame, fps);
            coordinates = Tensor::cat(&[coordinates, more], 1);
            strengths.extend(std::iter::repeat_n(1.0_f32, usize::try_from(rows * columns).unwrap_or(0)));
        }
        let mask = Tensor::from_slice(&strengths).view([1, -1, 1]).to_device(device);
        let given = Some(GivenTokens::new(&strengths, device));
        Self { start, coordinates, given, kept: Some((mask, clean)), size }
    }

    /// Number of tokens.
    pub(super) fn count(&self) -> i64 {
        self.start.size()[1]
    }

    /// `[tokens]` f32 on the CPU: 1 for tokens of a latent frame that is a single picture.
    pub(super) fn single_pictures(&self) -> Tensor {
        let [_, rows, columns] = self.size;
        let marks = Tensor::zeros([self.count()], (Kind::Float, Device::Cpu));
        let _ = marks.narrow(0, 0, rows * columns).fill_(1.0);
        let video: i64 = self.size.iter().product();
        let _ = marks.narrow(0, video, self.count() - video).fill_(1.0);
        marks
    }

    /// Tokens, predicted or noisy, with the given ones as they are.
    pub(super) fn keep_given(&self, prediction: &Tensor) -> Tensor {
        match &self.kept {
            Some((mask, clean)) => prediction * (1.0 - mask) + clean * mask,
            None => prediction.shallow_clone(),
        }
    }

    /// The video's tokens as latents `[1, z, frames, rows, columns]`, without those of given pictures.
    pub(super) fn latents(&self, tokens: &Tensor) -> Tensor {
        unpack(&tokens.narrow(1, 0, self.size.iter().product()), self.size)
    }
}
