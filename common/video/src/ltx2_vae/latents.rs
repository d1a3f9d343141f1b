//! Corrections of upsampled latents, as diffusers' `LTX2LatentUpsamplePipeline` offers them.

use tch::{Kind, Tensor};

/// Adaptive instance normalisation (Huang & Belongie 2017): gives each channel of `latents` the mean and deviation that it
/// has in `reference`, to the share `factor` (0: unchanged, 1: whole). `[n, z, f, h, w]`, `reference` of any size
/// `[n, z, …]` → as `latents`, f32.
pub fn adain_latents(latents: &Tensor, reference: &Tensor, factor: f64) -> Tensor {
    let [latents, reference] = [latents, reference].map(|latents| latents.to_kind(Kind::Float));
    let axes: &[i64] = &[2, 3, 4];
    let (std, mean) = latents.std_mean_dim(axes, true, true);
    let (want_std, want_mean) = reference.std_mean_dim(axes, true, true);
    let matched = (&latents - mean) / std * want_std + want_mean;
    latents.lerp(&matched, factor)
}

/// Reduces large values by a sigmoid: `compression` from 0 (unchanged) to 1. Any shape → the same, f32.
pub fn tone_map_latents(latents: &Tensor, compression: f64) -> Tensor {
    let latents = latents.to_kind(Kind::Float);
    let strength = 0.75 * compression;
    let share = ((latents.abs() - 1.0) * (4.0 * strength)).sigmoid();
    &latents * (share * (-0.8 * strength) + 1.0)
}
