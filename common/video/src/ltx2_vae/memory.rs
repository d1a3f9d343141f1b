//! How much memory encoding and decoding need, and how large the pieces are in which the decoder works.

use tch::{Device, Kind};

use super::autoencoder::check_tiling;
use super::config::Ltx2VaeConfig;
use super::plan::{Layer, LayerKind, decoder_layers, encoder_layers};
use crate::autoencoder::{CHUNK_ELEMENTS, Grid, Tiling};

/// Copies of a frame of the result: tiles in f32, their picture, clamped, as bytes.
const OUTPUT_COPIES: i64 = 4;
/// Latent frames that the decoder computes together at most.
const MOST_LATENTS: i64 = 8;

impl Ltx2VaeConfig {
    /// Upper bound of the bytes that decoding a video of `size` `[height, width]` pixels and any length needs beside the
    /// weights, computing in `kind` on `device`.
    ///
    /// # Errors
    /// As [`Ltx2VaeConfig::check`], and for a tiling that does not fit.
    pub fn decode_bytes(
        &self,
        size: [i64; 2],
        tiling: Option<Tiling>,
        kind: Kind,
        device: Device,
    ) -> Result<u64, String> {
        self.check()?;
        let layers = decoder_layers(self)?;
        let grid = self.latent_grid(size, tiling)?;
        let border = 2 * i64::from(self.decoder_spatial_padding_mode == "reflect");
        let lookahead = !self.decoder_causal;
        let kept = |[height, width]: [i64; 2]| -> i64 {
            layers
                .iter()
                .map(|layer| kept_values(layer, layers[0].pixels, [height, width], border, lookahead))
                .sum()
        };
        let caches: i64 = grid.sizes().map(kept).sum();
        let largest = grid.sizes().next().unwrap_or(size);
        let values = piece_values(&layers, largest);
        let limits = piece_limits(&layers, largest, device);
        let piece = values.iter().zip(&limits).map(|(values, limit)| values * (limit + 1)).max().unwrap_or(0);
        // What waits for the later layers, in the worst case after each step.
        let steps = layers.iter().zip(values.iter().zip(&limits));
        let waiting: i64 = steps
            .filter(|(layer, _)| matches!(layer.kind, LayerKind::Up { .. }))
            .map(|(layer, (values, limit))| values * (limit + 1) * layer.conv_outputs() / piece_width(layer))
            .sum();
        let output = limits.last().map_or(0, |limit| (limit + 1) * size[0] * size[1] * self.out_channels);
        let scratch = layers.iter().map(largest_weight).max().unwrap_or(0);
        let element = kind.elt_size_in_bytes() as i64;
        let bytes = (caches + piece + waiting + scratch) * element + OUTPUT_COPIES * output * 4;
        // Tiles of different sizes leave gaps between their allocations; a fifth was measured.
        let bytes = if tiling.is_some() { bytes + bytes / 4 } else { bytes };
        Ok(bytes.unsigned_abs())
    }

    /// Upper bound of the bytes that encoding `frames` frames (one for a picture) of `size` `[height, width]` pixels needs
    /// beside the weights, computing in `kind`.
    ///
    /// # Errors
    /// As [`Ltx2VaeConfig::decode_bytes`].
    pub fn encode_bytes(
        &self,
        frames: i64,
        size: [i64; 2],
        tiling: Option<Tiling>,
        kind: Kind,
    ) -> Result<u64, String> {
        self.check()?;
        let layers = encoder_layers(self)?;
        let grid = self.latent_grid(size, tiling)?;
        let border = 2 * i64::from(self.encoder_spatial_padding_mode == "reflect");
        let latent = self.spatial_factor();
        let kept = |[height, width]: [i64; 2]| -> i64 {
            layers.iter().map(|layer| kept_values(layer, latent, [height, width], border, false)).sum()
        };
        let caches: i64 = grid.sizes().map(kept).sum();
        let [height, width] = grid.sizes().next().unwrap_or(size);
        let together = frames.min(self.temporal_factor());
        let chunk = |layer: &Layer| {
            let grown = latent / layer.pixels;
            let frames = together / layer.frames + 2;
            // Before and after the layer, and twice between; three copies of one frame for the convolution.
            let wide = layer.inputs.max(layer.outputs);
            height * grown * width * grown * (4 * frames * wide + 3 * layer.inputs + layer.outputs)
        };
        let piece = layers.iter().map(chunk).max().unwrap_or(0);
        let scratch = layers.iter().map(largest_weight).max().unwrap_or(0);
        let input = 2 * together * size[0] * size[1] * self.in_channels;
        let element = kind.elt_size_in_bytes() as i64;
        Ok(((caches + piece + scratch + input) * element).unsigned_abs())
    }

    /// The tiles of a picture of `size` pixels, in latents.
    fn latent_grid(&self, size: [i64; 2], tiling: Option<Tiling>) -> Result<Grid, String> {
        let factor = self.spatial_factor();
        check_tiling(tiling, factor)?;
        let grid = Grid::new(size, tiling).map_err(|error| error.to_string())?;
        Ok(grid.scaled_down(factor))
    }
}

/// Most frames that each layer of the decoder takes at once, for tiles of `size` `[height, width]` latents: those of
/// [`MOST_LATENTS`], but not more than need as much memory as one frame at the widest layer, or as libtorch computes well
/// with.
pub(super) fn piece_limits(layers: &[Layer], size: [i64; 2], device: Device) -> Vec<i64> {
    let values = piece_values(layers, size);
    let least = if device.is_cuda() { 64 * CHUNK_ELEMENTS } else { CHUNK_ELEMENTS / 16 };
    let budget = values.iter().copied().max().unwrap_or(0).max(least);
    let latent_frames = layers.first().map_or(1, |layer| layer.frames);
    let limit = |(layer, values): (&Layer, &i64)| {
        let most = MOST_LATENTS * latent_frames / layer.frames.max(1);
        (budget / values.max(&1)).min(most).max(1)
    };
    layers.iter().zip(&values).map(limit).collect()
}

/// Values that live while each layer computes one input frame.
fn piece_values(layers: &[Layer], [height, width]: [i64; 2]) -> Vec<i64> {
    let latent = layers.first().map_or(1, |layer| layer.pixels);
    let values = |layer: &Layer| {
        let grown = latent / layer.pixels.max(1);
        height * grown * width * grown * piece_width(layer)
    };
    layers.iter().map(values).collect()
}

/// Channels that live at once: the input, normalised, with a border, three frames side by side, the result and, of a step
/// or at the end, its rearranged copies.
fn piece_width(layer: &Layer) -> i64 {
    let copies = match layer.kind {
        LayerKind::Up { .. } => 3,
        LayerKind::Head => 1 + OUTPUT_COPIES,
        _ => 1,
    };
    6 * layer.inputs + copies * layer.conv_outputs()
}

/// Values that a layer keeps of earlier frames: two frames for each convolution, and those that wait to be added to its
/// result.
fn kept_values(layer: &Layer, latent: i64, [height, width]: [i64; 2], border: i64, lookahead: bool) -> i64 {
    let grown = latent / layer.pixels.max(1);
    let (height, width) = (height * grown, width * grown);
    let bordered = (height + border) * (width + border) * layer.inputs;
    let (convolutions, delay) = match layer.kind {
        LayerKind::Residual => (2, 2),
        LayerKind::Up { residual: true, .. } => (1, 1),
        _ => (1, 0),
    };
    2 * convolutions * bordered + i64::from(lookahead) * delay * height * width * layer.inputs
}

/// Values of the weight of a layer's convolution: libtorch makes a copy of it while it computes.
fn largest_weight(layer: &Layer) -> i64 {
    27 * layer.inputs * layer.conv_outputs()
}
