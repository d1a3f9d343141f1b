//! The autoencoder as pipelines use it.

use std::path::Path;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};
use videosdgx_picture::Picture;
use videosdgx_tensor::{Checkpoint, CheckpointError, Quantization, TensorError, Weights, check_finite};

use super::config::Ltx2VaeConfig;
use super::decoder::{Decoder, DecoderStream};
use super::encoder::Encoder;
use super::plan::{decoder_layers, encoder_layers};
use crate::autoencoder::{Grid, Tiling, VaeParts, encoder_not_loaded, rgb_frames, shape_error};
use crate::picture_tensor;

/// `AutoencoderKLLTX2Video` of LTX-2.
///
/// Its methods compute with libtorch and must run inside [`videosdgx_tensor::catch_libtorch_errors`].
pub struct Ltx2Vae {
    config: Ltx2VaeConfig,
    encoder: Option<Encoder>,
    decoder: Decoder,
    /// `[1, z, 1, 1, 1]` f32.
    mean: Tensor,
    /// `[1, z, 1, 1, 1]` f32, divided by the configuration's scaling factor.
    std: Tensor,
    kind: Kind,
    device: Device,
    resident_bytes: u64,
}

impl Ltx2Vae {
    /// The tiles of diffusers' `enable_tiling`: 512 × 512, 448 apart.
    pub const TILING: Tiling = Tiling { size: [512; 2], stride: [448; 2] };

    /// Loads a folder with `config.json` and safetensors (`vae/` of a checkpoint), computing in `kind` on `device`.
    ///
    /// # Errors
    /// [`TensorError::Checkpoint`] naming what is missing, broken or not supported; [`TensorError::OutOfMemory`].
    pub fn load(folder: &Path, parts: VaeParts, device: Device, kind: Kind) -> Result<Self, TensorError> {
        let checkpoint = Checkpoint::open(folder)?;
        let config: Ltx2VaeConfig = checkpoint.config()?;
        let invalid = |reason| CheckpointError::invalid(folder.join("config.json"), reason);
        config.check().map_err(invalid)?;
        let weights = Weights::new(Arc::new(checkpoint), device, kind, Quantization::None);
        let encoder = match parts {
            VaeParts::Decoder => None,
            VaeParts::Both => {
                let layers = encoder_layers(&config).map_err(invalid)?;
                Some(Encoder::load(&weights, &config, &layers)?)
            }
        };
        let decoder = Decoder::load(&weights, &config, decoder_layers(&config).map_err(invalid)?)?;
        let statistics = |name: &str| -> Result<Tensor, TensorError> {
            let values = weights.tensor_as(name, &[config.latent_channels], Kind::Float)?;
            Ok(values.f_view([1, -1, 1, 1, 1])?)
        };
        Ok(Self {
            mean: statistics("latents_mean")?,
            std: statistics("latents_std")?.f_div_scalar(config.scaling_factor)?,
            config,
            encoder,
            decoder,
            kind,
            device,
            resident_bytes: weights.resident_bytes(),
        })
    }

    /// The configuration that it was loaded with.
    pub fn config(&self) -> &Ltx2VaeConfig {
        &self.config
    }

    /// Bytes of its weights.
    pub fn resident_bytes(&self) -> u64 {
        self.resident_bytes
    }

    /// The latents that the transformer works with: `(latents - mean) / std`. `[n, z, f, h, w]` → the same, f32.
    pub fn normalize(&self, latents: &Tensor) -> Tensor {
        (latents.to_kind(Kind::Float) - &self.mean) / &self.std
    }

    /// The reverse of [`Ltx2Vae::normalize`].
    pub fn denormalize(&self, latents: &Tensor) -> Tensor {
        latents.to_kind(Kind::Float) * &self.std + &self.mean
    }

    /// Encodes a video of 8k + 1 frames; a single picture is a video of one. `video`: `[1, 3, 8k + 1, h, w]` from -1
    /// to 1 → the mean of its latents, `[1, z, k + 1, h / 32, w / 32]` f32, not normalised.
    ///
    /// # Errors
    /// [`TensorError::Libtorch`] for a different shape, or when the encoder is not loaded.
    pub fn encode(&self, video: &Tensor, tiling: Option<Tiling>) -> Result<Tensor, TensorError> {
        let size = video.size();
        let &[1, 3, frames, height, width] = size.as_slice() else {
            return Err(shape_error("video", "[1, 3, 8k + 1, 32h, 32w]", &size));
        };
        let Some(encoder) = &self.encoder else {
            return Err(encoder_not_loaded());
        };
        let (time, space) = (self.config.temporal_factor(), self.config.spatial_factor());
        if frames < 1
            || (frames - 1) % time != 0
            || [height, width].iter().any(|side| *side < 1 || side % space != 0)
        {
            let want = format!("{time}k + 1 frames of a multiple of {space} pixels");
            return Err(shape_error("video", &want, &[frames, height, width]));
        }
        check_tiling(tiling, space).map_err(TensorError::Libtorch)?;
        let pixels = Grid::new([height, width], tiling)?;
        let grid = pixels.scaled_down(space);
        let mut caches: Vec<_> = (0..pixels.tiles()).map(|_| encoder.cache()).collect();
        let mut latents = Vec::new();
        let mut start = 0;
        while start < frames {
            let count = if start == 0 { 1 } else { time };
            let chunk = video.narrow(2, start, count).squeeze_dim(0).permute([1, 2, 3, 0]);
            let chunk = chunk.to_device(self.device).to_kind(self.kind);
            let tiles = pixels.cut(&chunk).into_iter().zip(&mut caches);
            let tiles: Vec<Tensor> =
                tiles.filter_map(|(tile, cache)| encoder.forward(&tile.contiguous(), cache)).collect();
            latents.push(grid.join(tiles));
            start += count;
        }
        Ok(Tensor::cat(&latents, 0).permute([3, 0, 1, 2]).unsqueeze(0).contiguous())
    }

    /// Encodes one picture of a multiple of 32 pixels, for conditioning on it → normalised latents
    /// `[1, z, 1, h / 32, w / 32]` f32.
    ///
    /// # Errors
    /// As [`Ltx2Vae::encode`].
    pub fn encode_picture(&self, picture: &Picture, tiling: Option<Tiling>) -> Result<Tensor, TensorError> {
        let pixels = (picture_tensor(picture) / 255.0 * 2.0 - 1.0).unsqueeze(0).unsqueeze(2);
        Ok(self.normalize(&self.encode(&pixels, tiling)?))
    }

    /// Decodes all latents into one tensor. `latents`: `[1, z, k + 1, h, w]`, not normalised →
    /// `[1, 3, 8k + 1, 32h, 32w]` f32 from -1 to 1.
    ///
    /// # Errors
    /// As [`Ltx2Vae::decode_chunks`].
    pub fn decode(&self, latents: &Tensor, tiling: Option<Tiling>) -> Result<Tensor, TensorError> {
        let mut chunks = Vec::new();
        self.decode_chunks(latents, tiling, |chunk| {
            chunks.push(chunk);
            Ok::<_, TensorError>(())
        })?;
        Ok(Tensor::cat(&chunks, 0).permute([3, 0, 1, 2]).unsqueeze(0))
    }

    /// Decodes latents frame by frame as RGB8 `[32h, 32w, 3]`, calling `on_frame` with each frame as soon as it is decoded.
    ///
    /// # Errors
    /// As [`Ltx2Vae::decode_chunks`], and an error of `on_frame`, which ends the decoding.
    pub fn decode_frames<E: From<TensorError>>(
        &self,
        latents: &Tensor,
        tiling: Option<Tiling>,
        mut on_frame: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.decode_chunks(latents, tiling, |chunk| rgb_frames(&chunk, &mut on_frame))
    }

    /// Decodes latents `[1, z, k + 1, h, w]`, not normalised, and calls `on_chunk` with the next few frames,
    /// `[t, 32h, 32w, 3]` f32 from -1 to 1, in turn. The frames are those of a decoder that sees the whole video; memory
    /// does not depend on `k`. Tiles are decoded and blended as by diffusers' `tiled_decode`.
    ///
    /// # Errors
    /// [`TensorError::Libtorch`] for latents of a different shape or tiles that are not whole latents,
    /// [`TensorError::NotFinite`] for frames with NaN or infinity, and an error of `on_chunk`, which ends the decoding.
    pub fn decode_chunks<E: From<TensorError>>(
        &self,
        latents: &Tensor,
        tiling: Option<Tiling>,
        mut on_chunk: impl FnMut(Tensor) -> Result<(), E>,
    ) -> Result<(), E> {
        let size = latents.size();
        if size.len() != 5 || size[0] != 1 || size[1] != self.config.latent_channels || size.contains(&0) {
            let want = format!("[1, {}, k + 1, h, w]", self.config.latent_channels);
            return Err(shape_error("latents", &want, &size).into());
        }
        let factor = self.config.spatial_factor();
        check_tiling(tiling, factor).map_err(TensorError::Libtorch)?;
        let pixels = Grid::new([size[3] * factor, size[4] * factor], tiling)?;
        let grid = pixels.scaled_down(factor);
        let latents = latents.squeeze_dim(0).permute([1, 2, 3, 0]).to_device(self.device).to_kind(self.kind);
        let tiles = grid.cut(&latents);
        let largest = [tiles[0].size()[1], tiles[0].size()[2]];
        let mut streams: Vec<DecoderStream> =
            tiles.iter().map(|tile| self.decoder.stream(tile.contiguous(), largest)).collect();
        loop {
            let tiles: Vec<Tensor> = streams.iter_mut().filter_map(DecoderStream::next_frames).collect();
            if tiles.is_empty() {
                return Ok(());
            }
            let frames = pixels.join(tiles);
            check_finite(&frames, "the frames after decoding")?;
            on_chunk(frames.clamp(-1.0, 1.0))?;
        }
    }
}

/// Checks that tiles consist of whole latents of `factor` pixels.
pub(super) fn check_tiling(tiling: Option<Tiling>, factor: i64) -> Result<(), String> {
    match tiling {
        Some(Tiling { size, stride }) if size.iter().chain(&stride).any(|side| side % factor != 0) => {
            Err(format!("tile size {size:?} and stride {stride:?} must be multiples of {factor}"))
        }
        _ => Ok(()),
    }
}
