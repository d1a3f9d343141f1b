//! Euler's method on the flow's ordinary differential equation.

use tch::{Kind, Tensor};

use super::dynamic_shift::{DynamicShift, stretched_to};
use super::{NoiseSource, Scheduler, round_f32, shifted};

/// Settings of `FlowMatchEulerDiscreteScheduler`.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowMatchEulerConfig {
    /// The timestep of pure noise.
    pub num_train_timesteps: u32,
    /// Shift towards noise; not used with `dynamic_shift`.
    pub shift: f64,
    /// A shift that depends on the number of tokens.
    pub dynamic_shift: Option<DynamicShift>,
    /// The last sigma before 0, to which the schedule is stretched.
    pub shift_terminal: Option<f64>,
}

impl FlowMatchEulerConfig {
    /// A constant shift and no stretching.
    #[must_use]
    pub fn new(num_train_timesteps: u32, shift: f64) -> Self {
        Self { num_train_timesteps, shift, dynamic_shift: None, shift_terminal: None }
    }
}

/// Steps along the predicted velocity: `x += (next sigma - sigma) * velocity`.
#[derive(Debug)]
pub struct FlowMatchEuler {
    schedule: Schedule,
    index: usize,
}

impl FlowMatchEuler {
    /// At the start of a schedule.
    pub(super) fn new(schedule: Schedule) -> Self {
        Self { schedule, index: 0 }
    }
}

/// Timesteps, and one sigma more.
#[derive(Debug)]
pub(super) struct Schedule {
    pub(super) timesteps: Vec<f64>,
    pub(super) sigmas: Vec<f64>,
}

impl Schedule {
    /// `steps` steps over the whole training schedule, with a constant shift.
    pub(super) fn of_steps(config: &FlowMatchEulerConfig, steps: usize) -> Self {
        let train = f64::from(config.num_train_timesteps);
        // The reference shifts the ends of its training schedule, spaces the steps between them, and shifts those.
        let [last, first] = [1.0 / train, 1.0].map(|sigma| round_f32(shifted(sigma, config.shift)));
        let spacing = (last - first) / steps.saturating_sub(1).max(1) as f64;
        let sigmas = (0..steps).map(|index| shifted(first + spacing * index as f64, config.shift)).collect();
        Self::ending_at_zero(config, sigmas)
    }

    /// One step from each of `sigmas` (falling, above 0, before any shift) for a sequence of `tokens` tokens.
    pub(super) fn of_sigmas(config: &FlowMatchEulerConfig, sigmas: &[f64], tokens: i64) -> Self {
        let shift = |sigma: f64| match &config.dynamic_shift {
            Some(dynamic) => dynamic.shifted(sigma, tokens),
            None => shifted(sigma, config.shift),
        };
        let sigmas: Vec<f64> = sigmas.iter().map(|sigma| round_f32(shift(round_f32(*sigma)))).collect();
        let sigmas = match config.shift_terminal {
            Some(terminal) => stretched_to(&sigmas, terminal),
            None => sigmas,
        };
        Self::ending_at_zero(config, sigmas)
    }

    fn ending_at_zero(config: &FlowMatchEulerConfig, sigmas: Vec<f64>) -> Self {
        let train = f64::from(config.num_train_timesteps);
        let mut sigmas: Vec<f64> = sigmas.into_iter().map(round_f32).collect();
        let timesteps = sigmas.iter().map(|sigma| round_f32(sigma * train)).collect();
        sigmas.push(0.0);
        Self { timesteps, sigmas }
    }
}

impl Scheduler for FlowMatchEuler {
    fn timesteps(&self) -> &[f64] {
        &self.schedule.timesteps
    }

    fn sigmas(&self) -> &[f64] {
        &self.schedule.sigmas
    }

    fn step(&mut self, model_output: &Tensor, sample: &Tensor, _noise: &mut NoiseSource<'_>) -> Tensor {
        let &[sigma, next, ..] = &self.schedule.sigmas[self.index..] else {
            return sample.shallow_clone();
        };
        self.index += 1;
        let velocity = model_output.to_kind(Kind::Float);
        (sample.to_kind(Kind::Float) + velocity * (next - sigma)).to_kind(sample.kind())
    }
}
