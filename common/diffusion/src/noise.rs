//! Seeded noise, from which denoising starts and which stochastic schedulers add.

use videosdgx_tensor::{Device, Tensor};

/// A seeded generator of standard normal noise. It does not use libtorch's, so that a seed gives the same video on every
/// device, with any number of threads and with any version of libtorch.
///
/// xoshiro256++ (Blackman & Vigna 2019), seeded by SplitMix64; Box–Muller in f64.
///
/// ```
/// use videosdgx_diffusion::{NoiseGenerator, normal};
///
/// let mut generator = NoiseGenerator::new(7);
/// assert_eq!(generator.normal(&[2, 3]), normal(7, &[2, 3]));
/// assert_ne!(generator.normal(&[2, 3]), normal(7, &[2, 3]));
/// ```
pub struct NoiseGenerator(Xoshiro);

impl NoiseGenerator {
    /// A generator whose first noise is [`normal`] of the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Xoshiro::seeded(seed))
    }

    /// The generator of the noise that schedulers add at their steps: independent of the initial noise of the same seed.
    #[must_use]
    pub fn for_steps(seed: u64) -> Self {
        Self::new(seed ^ STEPS)
    }

    /// The next noise of that shape, f32 on the CPU.
    pub fn normal(&mut self, shape: &[i64]) -> Tensor {
        let Self(generator) = self;
        let count: i64 = shape.iter().product();
        let mut values = Vec::with_capacity(usize::try_from(count).unwrap_or(0) + 1);
        while (values.len() as i64) < count {
            // (0, 1], for the logarithm.
            let radius = (-2.0 * (1.0 - generator.uniform()).ln()).sqrt();
            let (sin, cos) = (std::f64::consts::TAU * generator.uniform()).sin_cos();
            values.push((radius * cos) as f32);
            values.push((radius * sin) as f32);
        }
        values.truncate(usize::try_from(count).unwrap_or(0));
        Tensor::from_slice(&values).view(shape).to_device(Device::Cpu)
    }
}

/// Distinguishes the seeds of [`NoiseGenerator::for_steps`].
const STEPS: u64 = 0xa076_1d64_78bd_642f;

/// The initial noise of a seed: f32 on the CPU.
pub fn normal(seed: u64, shape: &[i64]) -> Tensor {
    NoiseGenerator::new(seed).normal(shape)
}

struct Xoshiro([u64; 4]);

impl Xoshiro {
    fn seeded(mut seed: u64) -> Self {
        Self(std::array::from_fn(|_| {
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = seed;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }))
    }

    fn next(&mut self) -> u64 {
        let Self(s) = self;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let shifted = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= shifted;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// [0, 1) in steps of 2^-53.
    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use videosdgx_tensor::Kind;

    #[test]
    fn the_generator_is_the_published_one() {
        // First outputs of the reference implementation from the state 1, 2, 3, 4.
        let mut generator = Xoshiro([1, 2, 3, 4]);
        assert_eq!(
            [generator.next(), generator.next(), generator.next()],
            [41_943_041, 58_720_359, 3_588_806_011_781_223]
        );
    }

    #[test]
    fn the_noise_is_standard_normal_and_follows_the_seed() {
        let noise = normal(7, &[1, 16, 5, 30, 31]);
        let number = |tensor: Tensor| f64::try_from(tensor).expect("a number");
        let mean = number(noise.mean(Kind::Double));
        let variance = number(noise.to_kind(Kind::Double).square().mean(Kind::Double));
        let fourth = number(noise.to_kind(Kind::Double).square().square().mean(Kind::Double));
        assert!(
            mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02 && (fourth - 3.0).abs() < 0.15,
            "{mean} {variance} {fourth}"
        );
        assert_eq!(noise, normal(7, &[1, 16, 5, 30, 31]));
        assert_ne!(noise, normal(8, &[1, 16, 5, 30, 31]));
        assert_eq!(normal(7, &[3]), noise.view([-1]).narrow(0, 0, 3));
    }
}
