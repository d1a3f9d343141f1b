//! Sinusoidal embedding of timesteps.

use tch::{Device, Kind, Tensor};

/// Cosines, then sines, of `timesteps` at `channels / 2` frequencies from 1 down to 1/10,000, in f32: `[timesteps,
/// channels]` (Ho et al. 2020; `get_timestep_embedding` of diffusers with `flip_sin_to_cos` and no shift of the
/// frequencies).
pub fn timestep_waves(timesteps: &[f64], channels: i64, device: Device) -> Tensor {
    let half = channels / 2;
    let exponent = Tensor::arange(half, (Kind::Float, Device::Cpu)) * -(10_000f64.ln()) / half as f64;
    let angles = Tensor::from_slice(timesteps).to_kind(Kind::Float).unsqueeze(1) * exponent.exp();
    Tensor::cat(&[angles.cos(), angles.sin()], 1).to_device(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_fall_from_one_geometrically() {
        let waves = timestep_waves(&[0.0, 2.0], 8, Device::Cpu);
        assert_eq!(waves.size(), [2, 8]);
        for at in 0..4 {
            assert!(waves.double_value(&[0, at]) == 1.0 && waves.double_value(&[0, 4 + at]) == 0.0);
            let angle = 2.0 * 10f64.powi(-(at as i32));
            assert!((waves.double_value(&[1, at]) - angle.cos()).abs() < 1e-6);
            assert!((waves.double_value(&[1, 4 + at]) - angle.sin()).abs() < 1e-6);
        }
    }
}
