//! Euler's method with new noise at every step.

use tch::{Kind, Tensor};

use super::flow_match_euler::Schedule;
use super::{NoiseSource, Scheduler};

/// Predicts the data and adds new noise of the next sigma, as the reference's `stochastic_sampling` does:
/// `x = (1 - next sigma) * (x - sigma * velocity) + next sigma * noise`. The schedule is that of
/// [`FlowMatchEuler`](super::FlowMatchEuler).
#[derive(Debug)]
pub struct FlowMatchEulerAncestral {
    schedule: Schedule,
    index: usize,
}

impl FlowMatchEulerAncestral {
    /// At the start of a schedule.
    pub(super) fn new(schedule: Schedule) -> Self {
        Self { schedule, index: 0 }
    }
}

impl Scheduler for FlowMatchEulerAncestral {
    fn timesteps(&self) -> &[f64] {
        &self.schedule.timesteps
    }

    fn sigmas(&self) -> &[f64] {
        &self.schedule.sigmas
    }

    fn step(&mut self, model_output: &Tensor, sample: &Tensor, noise: &mut NoiseSource<'_>) -> Tensor {
        let &[sigma, next, ..] = &self.schedule.sigmas[self.index..] else {
            return sample.shallow_clone();
        };
        self.index += 1;
        let data = sample.to_kind(Kind::Float) - model_output.to_kind(Kind::Float) * sigma;
        let noise = noise(&sample.size()).to_device(sample.device());
        (data * (1.0 - next) + noise * next).to_kind(sample.kind())
    }
}
