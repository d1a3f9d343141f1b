//! The autoencoder as pipelines use it.

use std::path::Path;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};
use videosdgx_tensor::{Checkpoint, CheckpointError, Quantization, TensorError, Weights, check_finite};

use super::config::{TEMPORAL_FACTOR, WanVaeConfig};
use super::decoder::Decoder;
use super::encoder::Encoder;
use crate::autoencoder::{Grid, Tiling, VaeParts, encoder_not_loaded, rgb_frames, shape_error};

/// `AutoencoderKLWan` of Wan 2.1.
///
/// Its methods compute with libtorch and must run inside [`videosdgx_tensor::catch_libtorch_errors`].
pub struct WanVae {
    config: WanVaeConfig,
    encoder: Option<Encoder>,
    decoder: Decoder,
    /// `[1, z, 1, 1, 1]` f32.
    mean: Tensor,
    std: Tensor,
    kind: Kind,
    device: Device,
    resident_bytes: u64,
}

impl WanVae {
    /// Loads a folder with `config.json` and safetensors (`vae/` of a checkpoint), computing in `kind` on `device`.
    ///
    /// # Errors
    /// [`TensorError::Checkpoint`] naming what is missing, broken or not supported; [`TensorError::OutOfMemory`].
    pub fn load(folder: &Path, parts: VaeParts, device: Device, kind: Kind) -> Result<Self, TensorError> {
        let checkpoint = Checkpoint::open(folder)?;
        let config: WanVaeConfig = checkpoint.config()?;
        config.check().map_err(|reason| CheckpointError::invalid(folder.join("config.json"), reason))?;
        let weights = Weights::new(Arc::new(checkpoint), device, kind, Quantization::None);
        let encoder = match parts {
            VaeParts::Decoder => None,
            VaeParts::Both => Some(Encoder::load(&weights, &config)?),
        };
        let decoder = Decoder::load(&weights, &config)?;
        let statistics = |values: &[f64]| {
            Tensor::from_slice(values).to_kind(Kind::Float).to_device(device).view([1, -1, 1, 1, 1])
        };
        Ok(Self {
            mean: statistics(&config.latents_mean),
            std: statistics(&config.latents_std),
            config,
            encoder,
            decoder,
            kind,
            device,
            resident_bytes: weights.resident_bytes(),
        })
    }

    /// The configuration that it was loaded with.
    pub fn config(&self) -> &WanVaeConfig {
        &self.config
    }

    pub(super) fn device(&self) -> Device {
        self.device
    }

    /// Bytes of its weights.
    pub fn resident_bytes(&self) -> u64 {
        self.resident_bytes
    }

    /// The latents that the transformer works with: `(latents - mean) / std`. `[1, z, f, h, w]` → the same, f32.
    pub fn normalize(&self, latents: &Tensor) -> Tensor {
        (latents.to_kind(Kind::Float) - &self.mean) / &self.std
    }

    /// The reverse of [`WanVae::normalize`].
    pub fn denormalize(&self, latents: &Tensor) -> Tensor {
        latents.to_kind(Kind::Float) * &self.std + &self.mean
    }

    /// Encodes a video of 4k + 1 frames. `video`: `[1, 3, 4k + 1, h, w]` from -1 to 1 → the mean of its latents,
    /// `[1, z, k + 1, h / 8, w / 8]` f32, not normalised.
    ///
    /// # Errors
    /// [`TensorError::Libtorch`] for a different shape, or when the encoder is not loaded.
    pub fn encode(&self, video: &Tensor, tiling: Option<Tiling>) -> Result<Tensor, TensorError> {
        let size = video.size();
        let &[1, 3, frames, height, width] = size.as_slice() else {
            return Err(shape_error("video", "[1, 3, 4k + 1, 8h, 8w]", &size));
        };
        self.encode_chunks(frames, [height, width], tiling, |start, count| {
            video.narrow(2, start, count).squeeze_dim(0).permute([1, 2, 3, 0])
        })
    }

    /// Encodes a video of a picture followed by `frames - 1` mid-gray (zero) frames, as image to video is conditioned,
    /// without allocating these. `picture`: `[1, 3, h, w]` from -1 to 1 → as [`WanVae::encode`].
    ///
    /// # Errors
    /// As [`WanVae::encode`].
    pub fn encode_first_frame(
        &self,
        picture: &Tensor,
        frames: i64,
        tiling: Option<Tiling>,
    ) -> Result<Tensor, TensorError> {
        let size = picture.size();
        let &[1, 3, height, width] = size.as_slice() else {
            return Err(shape_error("picture", "[1, 3, 8h, 8w]", &size));
        };
        let first = picture.permute([0, 2, 3, 1]);
        self.encode_chunks(frames, [height, width], tiling, |start, count| {
            if start == 0 {
                first.shallow_clone()
            } else {
                first.new_zeros([count, height, width, 3], (first.kind(), first.device()))
            }
        })
    }

    /// Decodes all latents into one tensor. `latents`: `[1, z, k + 1, h, w]`, not normalised → `[1, 3, 4k + 1, 8h, 8w]` f32
    /// from -1 to 1.
    ///
    /// # Errors
    /// As [`WanVae::decode_chunks`].
    pub fn decode(&self, latents: &Tensor, tiling: Option<Tiling>) -> Result<Tensor, TensorError> {
        let mut chunks = Vec::new();
        self.decode_chunks(latents, tiling, |chunk| {
            chunks.push(chunk);
            Ok::<_, TensorError>(())
        })?;
        Ok(Tensor::cat(&chunks, 0).permute([3, 0, 1, 2]).unsqueeze(0))
    }

    /// Decodes latents frame by frame as RGB8 `[8h, 8w, 3]`, calling `on_frame` with each frame as soon as it is decoded.
    ///
    /// # Errors
    /// As [`WanVae::decode_chunks`], and an error of `on_frame`, which ends the decoding.
    pub fn decode_frames<E: From<TensorError>>(
        &self,
        latents: &Tensor,
        tiling: Option<Tiling>,
        mut on_frame: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.decode_chunks(latents, tiling, |chunk| rgb_frames(&chunk, &mut on_frame))
    }

    /// Decodes latents `[1, z, k + 1, h, w]`, not normalised, and calls `on_chunk` with the frames of each latent
    /// frame: one for the first, then four each, `[t, 8h, 8w, 3]` f32 from -1 to 1. Memory does not depend on `k`.
    ///
    /// # Errors
    /// [`TensorError::Libtorch`] for latents of a different shape, [`TensorError::NotFinite`] for frames with NaN or infinity,
    /// and an error of `on_chunk`, which ends the decoding.
    pub fn decode_chunks<E: From<TensorError>>(
        &self,
        latents: &Tensor,
        tiling: Option<Tiling>,
        mut on_chunk: impl FnMut(Tensor) -> Result<(), E>,
    ) -> Result<(), E> {
        let size = latents.size();
        let frames = match size.as_slice() {
            &[1, z, frames, ..] if z == self.config.z_dim && size.len() == 5 => frames,
            _ => return Err(shape_error("latents", "[1, z, k + 1, h, w]", &size).into()),
        };
        let factor = self.config.spatial_factor();
        let pixels = Grid::new([size[3] * factor, size[4] * factor], tiling)?;
        let grid = pixels.scaled_down(factor);
        let mut caches: Vec<_> = (0..grid.tiles()).map(|_| self.decoder.cache()).collect();
        for frame in 0..frames {
            let latent = latents.narrow(2, frame, 1).squeeze_dim(0).permute([1, 2, 3, 0]);
            let latent = latent.to_device(self.device).to_kind(self.kind);
            let tiles = grid.cut(&latent).into_iter().zip(&mut caches);
            let tiles = tiles.map(|(tile, cache)| self.decoder.forward(&tile.contiguous(), cache)).collect();
            let frames = pixels.join(tiles);
            check_finite(&frames, "the frames after decoding")?;
            on_chunk(frames.clamp(-1.0, 1.0))?;
        }
        Ok(())
    }

    /// Encodes a video given in chunks: `chunk(first frame, number of frames)` → `[t, h, w, 3]`.
    fn encode_chunks(
        &self,
        frames: i64,
        picture: [i64; 2],
        tiling: Option<Tiling>,
        chunk: impl Fn(i64, i64) -> Tensor,
    ) -> Result<Tensor, TensorError> {
        let Some(encoder) = &self.encoder else {
            return Err(encoder_not_loaded());
        };
        let factor = self.config.spatial_factor();
        if frames < 1 || frames % TEMPORAL_FACTOR != 1 || picture.iter().any(|side| side % factor != 0) {
            let size = [frames, picture[0], picture[1]];
            return Err(shape_error("video", "4k + 1 frames of a multiple of 8 pixels", &size));
        }
        let pixels = Grid::new(picture, tiling)?;
        let grid = pixels.scaled_down(factor);
        let mut caches: Vec<_> = (0..pixels.tiles()).map(|_| encoder.cache()).collect();
        let mut latents = Vec::new();
        for index in 0..self.config.latent_frames(frames) {
            let (start, count) = match index {
                0 => (0, 1),
                _ => (1 + TEMPORAL_FACTOR * (index - 1), TEMPORAL_FACTOR),
            };
            let frames = chunk(start, count).to_device(self.device).to_kind(self.kind);
            let tiles = pixels.cut(&frames).into_iter().zip(&mut caches);
            let tiles = tiles.map(|(tile, cache)| encoder.forward(&tile.contiguous(), cache)).collect();
            latents.push(grid.join(tiles));
        }
        Ok(Tensor::cat(&latents, 0).permute([3, 0, 1, 2]).unsqueeze(0).contiguous())
    }
}
