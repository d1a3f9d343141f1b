//! Solvers that turn a flow model's predictions into a sample.
//!
//! A flow model predicts the velocity `noise - data` at `x = (1 - sigma) * data + sigma * noise`. A scheduler holds the
//! sigmas from near 1 (noise) to 0 (data) and takes one step from each to the next. Which scheduler, and with which
//! settings, is in the checkpoint's `scheduler/scheduler_config.json`.
//!
//! ```no_run
//! # use videosdgx_diffusion::{NoiseGenerator, schedulers::SchedulerConfig};
//! # fn model(_: &tch::Tensor, _: f64) -> tch::Tensor { unimplemented!() }
//! # fn main() -> Result<(), videosdgx_tensor::CheckpointError> {
//! # let noise = tch::Tensor::from(0f32);
//! # let seed = 1;
//! let mut generator = NoiseGenerator::for_steps(seed);
//! let mut scheduler = SchedulerConfig::read("models/wan21".as_ref())?.start(30);
//! let mut latents = noise;
//! for timestep in scheduler.timesteps().to_vec() {
//!     latents = scheduler.step(&model(&latents, timestep), &latents, &mut |shape| generator.normal(shape));
//! }
//! # Ok(()) }
//! ```

mod config;
mod dynamic_shift;
mod flow_match_euler;
mod flow_match_euler_ancestral;
mod unipc;

pub use config::SchedulerConfig;
pub use dynamic_shift::{DynamicShift, ShiftKind};
pub use flow_match_euler::{FlowMatchEuler, FlowMatchEulerConfig};
pub use flow_match_euler_ancestral::FlowMatchEulerAncestral;
pub use unipc::{SolverType, UniPc, UniPcConfig};

use tch::Tensor;

/// The source of a step's noise for stochastic schedulers: a seeded generator, or stored noise in golden tests.
pub type NoiseSource<'a> = dyn FnMut(&[i64]) -> Tensor + 'a;

/// A solver and its position in one schedule.
pub trait Scheduler: Send {
    /// The timestep passed to the model at each step, falling from near the number of training timesteps (1000).
    fn timesteps(&self) -> &[f64];

    /// Share of noise before each step and after the last one: one more than there are timesteps.
    fn sigmas(&self) -> &[f64];

    /// Takes the next step. `model_output`: the velocity predicted at `sample`, of the same shape and any float type →
    /// the sample at the next sigma, in `sample`'s type; computed in f32. `noise(shape)`: standard normal noise, f32 on the
    /// CPU, which only stochastic schedulers use. After the last step a sample is returned unchanged.
    fn step(&mut self, model_output: &Tensor, sample: &Tensor, noise: &mut NoiseSource<'_>) -> Tensor;
}

/// Moves sigmas towards noise: `shift * s / (1 + (shift - 1) * s)`.
fn shifted(sigma: f64, shift: f64) -> f64 {
    shift * sigma / (1.0 + (shift - 1.0) * sigma)
}

/// The nearest f32, as which the reference stores its sigmas.
fn round_f32(value: f64) -> f64 {
    f64::from(value as f32)
}
