//! Euler's method on the flow's ordinary differential equation.

use tch::{Kind, Tensor};

use super::{NoiseSource, Scheduler, round_f32, shifted};

/// Settings of `FlowMatchEulerDiscreteScheduler` without dynamic shifting.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowMatchEulerConfig {
    /// The timestep of pure noise.
    pub num_train_timesteps: u32,
    /// Shift towards noise.
    pub shift: f64,
}

/// Steps along the predicted velocity: `x += (next sigma - sigma) * velocity`.
#[derive(Debug)]
pub struct FlowMatchEuler {
    timesteps: Vec<f64>,
    sigmas: Vec<f64>,
    index: usize,
}

impl FlowMatchEuler {
    /// A schedule of `steps` steps.
    pub fn new(config: &FlowMatchEulerConfig, steps: usize) -> Self {
        let (timesteps, sigmas) = schedule(config, steps);
        Self { timesteps, sigmas, index: 0 }
    }
}

/// The timesteps and sigmas of `steps` steps.
pub(super) fn schedule(config: &FlowMatchEulerConfig, steps: usize) -> (Vec<f64>, Vec<f64>) {
    let train = f64::from(config.num_train_timesteps);
    // The reference shifts the ends of its training schedule, spaces the steps between them, and shifts those.
    let [last, first] = [1.0 / train, 1.0].map(|sigma| round_f32(shifted(sigma, config.shift)));
    let spacing = (last - first) / steps.saturating_sub(1).max(1) as f64;
    let sigma = |index: usize| round_f32(shifted(first + spacing * index as f64, config.shift));
    let mut sigmas: Vec<f64> = (0..steps).map(sigma).collect();
    let timesteps = sigmas.iter().map(|sigma| round_f32(sigma * train)).collect();
    sigmas.push(0.0);
    (timesteps, sigmas)
}

impl Scheduler for FlowMatchEuler {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn sigmas(&self) -> &[f64] {
        &self.sigmas
    }

    fn step(&mut self, model_output: &Tensor, sample: &Tensor, _noise: &mut NoiseSource<'_>) -> Tensor {
        let &[sigma, next, ..] = &self.sigmas[self.index..] else {
            return sample.shallow_clone();
        };
        self.index += 1;
        let velocity = model_output.to_kind(Kind::Float);
        (sample.to_kind(Kind::Float) + velocity * (next - sigma)).to_kind(sample.kind())
    }
}
