//! The denoising loop over a schedule.

use tch::Tensor;
use videosdgx_tensor::{TensorError, catch_libtorch_errors};

use crate::{NoiseGenerator, PipelineError, schedulers::Scheduler};

/// Takes `latents` through `scheduler`'s schedule: `predict(latents, timestep)` → the model's output, of the same
/// shape; `noise` is what stochastic schedulers add; `before_step(step)` is called before each step and may end the loop.
///
/// # Errors
/// [`PipelineError`] when libtorch fails, or what `before_step` returned.
pub fn denoise<E: From<PipelineError>>(
    scheduler: &mut dyn Scheduler,
    mut latents: Tensor,
    noise: &mut NoiseGenerator,
    mut before_step: impl FnMut(usize) -> Result<(), E>,
    predict: impl Fn(&Tensor, f64) -> Tensor,
) -> Result<Tensor, E> {
    for (step, timestep) in scheduler.timesteps().to_vec().into_iter().enumerate() {
        before_step(step)?;
        latents = catch_libtorch_errors(|| {
            Ok(scheduler.step(&predict(&latents, timestep), &latents, &mut |shape| noise.normal(shape)))
        })
        .map_err(|error: TensorError| PipelineError::from(error))?;
    }
    Ok(latents)
}
